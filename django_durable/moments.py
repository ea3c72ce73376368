"""Points in time in our tables: aware and UTC in Python, whatever ``USE_TZ`` and ``TIME_ZONE`` say.

To a project with ``USE_TZ = False`` Django's own field gives naive local times, of which one hour comes twice every
autumn, and on SQLite it takes no others. Workers compare moments, so that ours must mean the same to all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone
from django.utils.dateparse import parse_datetime

if TYPE_CHECKING:
    DateTimeField = models.DateTimeField[Any, Any]
else:
    DateTimeField = models.DateTimeField


class _MomentField(DateTimeField):
    """A ``DateTimeField`` whose values are aware, in UTC. A naive one is taken as local time, as Django does."""

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        """The column is Django's own: migrations need not know more."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.DateTimeField", args, kwargs

    def from_db_value(self, value: Any, expression: object, connection: BaseDatabaseWrapper) -> datetime | None:
        return None if value is None else as_read(value, connection)

    def get_prep_value(self, value: Any) -> Any:
        moment = super().get_prep_value(value)
        if isinstance(moment, datetime) and timezone.is_naive(moment):
            return timezone.make_aware(moment, timezone.get_default_timezone())
        return moment

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        moment = value if prepared else self.get_prep_value(value)
        return as_written(moment, connection) if isinstance(moment, datetime) else moment


if TYPE_CHECKING:
    MomentField = models.DateTimeField  # of which the checker knows whether it may be null
else:
    MomentField = _MomentField


def as_written(moment: datetime, connection: BaseDatabaseWrapper) -> Any:
    """An aware ``moment`` as the driver takes it. A column that knows no time zone holds UTC."""
    if connection.features.supports_timezones:
        return moment
    return str(moment.astimezone(UTC).replace(tzinfo=None))


def as_read(value: datetime | str, connection: BaseDatabaseWrapper) -> datetime:
    """A time as the driver gives it, aware and in UTC."""
    moment = value if isinstance(value, datetime) else parse_datetime(value)
    assert moment is not None, f"{value!r} is no time"
    if not connection.features.supports_timezones:
        return moment.replace(tzinfo=UTC)
    if moment.tzinfo is UTC:
        return moment
    if moment.tzinfo is None:  # without USE_TZ Django cuts the session's time zone off; ``fold`` stays
        moment = moment.replace(tzinfo=ZoneInfo(connection.timezone_name))
    return moment.astimezone(UTC)
