"""Search attributes as rows: written with the start and with the drains of their run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from django_durable.definitions import attributes
from django_durable.models import RunAttribute
from django_durable.store import database

_COLUMNS = ["value", "text", "number", "time"]


def rows() -> QuerySet[RunAttribute]:
    return RunAttribute.objects.using(database.alias())


def write(changes: Sequence[tuple[UUID, Mapping[str, Any]]]) -> None:
    """Set attributes of runs, one entry a run; None removes. Only a run's owner and its start write these rows."""
    new = [_row(run_id, key, value) for run_id, values in changes for key, value in values.items() if value is not None]
    for run_id, values in changes:
        removed = [key for key, value in values.items() if value is None]
        if removed:
            rows().filter(run_id=run_id, key__in=removed)._raw_delete(database.alias())
    if new:
        rows().bulk_create(
            new,
            update_conflicts=True,
            unique_fields=database.conflict_target("run_id", "key"),
            update_fields=_COLUMNS,
            batch_size=1_000,
        )


def read(run_id: UUID) -> dict[str, Any]:
    """The attributes of a run, by name."""
    found = rows().filter(run_id=run_id).order_by("key").values_list("key", "value")
    return {key: attributes.load(value) for key, value in found}


def stored(run_ids: Collection[UUID]) -> dict[UUID, dict[str, str]]:
    """The attributes of many runs by name, each as JSON text; runs without any are left out."""
    found: dict[UUID, dict[str, str]] = defaultdict(dict)
    columns = rows().filter(run_id__in=run_ids).order_by("key").values_list("run_id", "key", "value")
    for run_id, key, value in columns:
        found[run_id][key] = value
    return found


def loaded(values: Mapping[str, str]) -> dict[str, Any]:
    """The attributes of one run, of what ``stored`` has given."""
    return {key: attributes.load(value) for key, value in values.items()}


def _row(run_id: UUID, key: str, value: Any) -> RunAttribute:
    attribute = attributes.encode(key, value)
    return RunAttribute(run_id=run_id, key=key, value=attributes.dump(attribute), **attribute.indexed._asdict())
