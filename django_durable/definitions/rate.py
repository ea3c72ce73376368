"""How many may begin in a stretch of time: the value, and the arithmetic of its bucket."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from datetime import datetime, timedelta

from django_durable.definitions import options as checks
from django_durable.exceptions import DefinitionError

BURST_SPAN = timedelta(milliseconds=100)  # what accrues in it may begin at once if nothing else is said
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` beginnings in any stretch of ``per``, but for ``burst - 1`` more after a quiet time.

    ``burst``: how many may begin at the same moment; None: what the rate gives in a tenth of a second, at least one.
    Without a burst ``Rate(60, per=timedelta(minutes=1))`` lets one begin each second.
    """

    count: int
    _: KW_ONLY
    per: timedelta
    burst: int | None = None

    def __post_init__(self) -> None:
        checks.check_count(self.count, name="count", owner="Rate")
        checks.check_duration(self.per, name="per", owner="Rate")
        if self.burst is not None:
            checks.check_count(self.burst, name="burst", owner="Rate")
        if self.per / self.count < _TICK:
            raise DefinitionError(f"Rate: {self.count} in {self.per} is more than one a microsecond. Leave it out.")

    @property
    def interval(self) -> timedelta:
        """Between two beginnings: rounded up, so that there are never more than ``count``."""
        microseconds = self.per // _TICK
        return _TICK * -(-microseconds // self.count)

    @property
    def at_once(self) -> int:
        """How many may begin at the same moment after a quiet time."""
        return self.burst if self.burst is not None else max(1, BURST_SPAN // self.interval)

    def free(self, spent_until: datetime | None, now: datetime) -> int:
        """How many may begin now.

        ``spent_until`` is the bucket: the moment at which all that has begun is paid for; None: nothing has.
        """
        return (now + self.interval * self.at_once - self._owed(spent_until, now)) // self.interval

    def spend(self, spent_until: datetime | None, now: datetime, count: int) -> datetime:
        """The bucket after ``count`` have begun now."""
        return self._owed(spent_until, now) + self.interval * count

    def next_free(self, spent_until: datetime | None, now: datetime) -> datetime:
        """From when on one more may begin."""
        return max(now, self._owed(spent_until, now) - self.interval * (self.at_once - 1))

    def _owed(self, spent_until: datetime | None, now: datetime) -> datetime:
        """The bucket as it is now. Nobody can owe more than a burst, unless a clock was wrong or the rate another."""
        return now if spent_until is None else min(max(spent_until, now), now + self.interval * self.at_once)
