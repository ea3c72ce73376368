"""Schedules: when a workflow is started again and again. Values only; nothing here knows what time it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from django_durable.definitions import options as checks
from django_durable.exceptions import DefinitionError

Overlap = Literal["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"]

OVERLAPS: tuple[Overlap, ...] = get_args(Overlap)
SHORTEST = timedelta(seconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Times of the calendar, each field a number, or text as in a cron expression: ``"1-5"``, ``"*/2"``, ``"MON"``.

    Midnight of every day unless said otherwise.
    """

    month: int | str = "*"
    day: int | str = "*"
    weekday: int | str = "*"
    """0 or 7 is Sunday; names work too."""
    hour: int | str = 0
    minute: int | str = 0
    second: int | str = 0

    @property
    def cron(self) -> str:
        """The same as a cron expression of six fields."""
        return f"{self.second} {self.minute} {self.hour} {self.day} {self.month} {self.weekday}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When to start a workflow. Exactly one of ``cron``, ``every`` and ``calendar`` says so.

    Raises ``DefinitionError`` for what could not work.
    """

    cron: str | None = None
    """Five fields, or six with seconds first. Around changes of the clock as Debian's cron does: a time that the clock
    jumps over is made up for at once, one that comes twice counts once unless the expression is periodic."""
    every: timedelta | None = None
    """Counted from ``start_at``, or else from 1970-01-01 UTC, so that all workers agree."""
    calendar: Calendar | None = None
    time_zone: str | None = None
    """Of ``cron`` and ``calendar``, such as ``"Europe/Berlin"``. None: the project's TIME_ZONE."""
    overlap: Overlap = "skip"
    """What a tick does while a run of this schedule is open."""
    catch_up: timedelta = timedelta(hours=1)
    """Ticks that nobody was there for are made up for unless they are older than this."""
    jitter: timedelta = timedelta(0)
    """Each tick is late by a part of this that depends on name and tick only."""
    start_at: datetime | None = None
    end_at: datetime | None = None
    max_runs: int | None = None
    """The schedule ends after so many starts."""
    paused: bool = False
    """Whether it begins paused."""
    note: str = ""
    """For people."""

    def __post_init__(self) -> None:
        _check_one_kind(self)
        _check_spans(self)
        _check_bounds(self)
        checks.check_choice(self.overlap, name="overlap", choices=OVERLAPS, owner="Schedule")
        checks.check_flag(self.paused, name="paused", owner="Schedule")
        checks.check_text(self.note, what="Schedule: note", limit=1_000, empty=True)
        _check_zone(self.time_zone)
        if self.expression is not None:
            _check_expression(self.expression)

    @property
    def expression(self) -> str | None:
        """The cron expression, if one says when."""
        return self.calendar.cron if self.calendar is not None else self.cron

    def __str__(self) -> str:
        if self.every is not None:
            return f"every {self.every}"
        return f"{self.expression} {self.time_zone or ''}".rstrip()

    def after(self, moment: datetime) -> datetime | None:
        """The first tick later than ``moment``, in UTC; None: there is none any more."""
        return next(self.ticks(moment), None)

    def ticks(self, after: datetime) -> Iterator[datetime]:
        """The ticks later than ``after``, in UTC."""
        if self.start_at is not None:
            after = max(after, self.start_at - timedelta(microseconds=1))
        for tick in self._intervals(after) if self.every is not None else self._expressed(after):
            if self.end_at is not None and tick > self.end_at:
                return
            yield tick

    def lateness(self, name: str, tick: datetime) -> timedelta:
        """How much later than ``tick`` the schedule ``name`` starts its run: the same in every process."""
        if not self.jitter:
            return timedelta(0)
        digest = hashlib.sha256(f"{name}\n{tick.isoformat()}".encode()).digest()
        return self.jitter * (int.from_bytes(digest[:8]) / 2**64)

    def _intervals(self, after: datetime) -> Iterator[datetime]:
        assert self.every is not None
        anchor = self.start_at or EPOCH
        count = (after - anchor) // self.every + 1
        try:
            while True:
                yield (anchor + count * self.every).astimezone(UTC)
                count += 1
        except OverflowError:
            return

    def _expressed(self, after: datetime) -> Iterator[datetime]:
        assert self.expression is not None
        zone = ZoneInfo(self.time_zone) if self.time_zone is not None else UTC
        for tick in CronSim(self.expression, after.astimezone(zone)):
            yield tick.astimezone(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredSchedule:
    """A schedule that code declares: workers write it to the database when they start."""

    name: str
    schedule: Schedule
    workflow: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


def _check_one_kind(schedule: Schedule) -> None:
    given = [name for name in ("cron", "every", "calendar") if getattr(schedule, name) is not None]
    if len(given) != 1:
        raise DefinitionError(
            f"Schedule: exactly one of cron, every and calendar says when; {', '.join(given) or 'none'} was given."
        )
    calendar: Any = schedule.calendar
    if calendar is not None and not isinstance(calendar, Calendar):
        raise DefinitionError(f"Schedule: calendar must be a Calendar, not {calendar!r}: Calendar(hour=9, minute=30).")


def _check_spans(schedule: Schedule) -> None:
    if schedule.every is not None:
        checks.check_duration(schedule.every, name="every", owner="Schedule")
        if schedule.every < SHORTEST:
            raise DefinitionError(f"Schedule: every must be one second or longer, not {schedule.every!r}.")
    for name in ("catch_up", "jitter"):
        span: Any = getattr(schedule, name)
        if not isinstance(span, timedelta) or span < timedelta(0):
            raise DefinitionError(f"Schedule: {name} must be a timedelta of zero or more, not {span!r}.")


def _check_bounds(schedule: Schedule) -> None:
    for name in ("start_at", "end_at"):
        moment: Any = getattr(schedule, name)
        if moment is not None and (not isinstance(moment, datetime) or moment.tzinfo is None):
            raise DefinitionError(f"Schedule: {name} must be a datetime with a time zone, not {moment!r}.")
    if schedule.start_at is not None and schedule.end_at is not None and schedule.end_at < schedule.start_at:
        raise DefinitionError(f"Schedule: end_at ({schedule.end_at}) lies before start_at ({schedule.start_at}).")
    runs: Any = schedule.max_runs
    if runs is not None and (not isinstance(runs, int) or isinstance(runs, bool) or runs < 1):
        raise DefinitionError(f"Schedule: max_runs must be a whole number of at least 1, not {runs!r}.")


def _check_zone(name: Any) -> None:
    try:
        if name is not None:
            ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError) as error:
        raise DefinitionError(
            f"Schedule: {name!r} is no time zone that this system knows. Use a name such as 'Europe/Berlin'; "
            "on a system without time zone data, install the package tzdata."
        ) from error


def _check_expression(expression: Any) -> None:
    try:
        CronSim(expression, EPOCH)
    except (CronSimError, AttributeError, TypeError) as error:
        raise DefinitionError(
            f"Schedule: {expression!r} is no cron expression: {error}. It has the fields minute, hour, day of month, "
            "month and day of week, such as '30 3 * * MON-FRI'."
        ) from error
