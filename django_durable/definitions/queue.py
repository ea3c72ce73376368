"""What a queue may be told: its limits, and whose turn it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypedDict, get_args

from django_durable.definitions import options as checks
from django_durable.definitions.rate import Rate
from django_durable.exceptions import DefinitionError

Counted = Literal["activities", "workflows"]
COUNTED: tuple[Counted, ...] = get_args(Counted)
ACTIVITIES, WORKFLOWS = COUNTED

NAME_LIMIT = 100  # characters, what the tables hold
KEY_LIMIT = 255
HEAVIEST = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """What limits a queue. None: no limit."""

    counts: Counted = "activities"
    """What the limits count: attempts of activities while somebody executes them, or workflows from their first step
    to their end, asleep or not."""
    concurrency: int | None = None
    """How many at a time, over all workers."""
    concurrency_per_worker: int | None = None
    """How many at a time in one worker process."""
    concurrency_per_key: int | None = None
    """How many at a time of one ``partition_key``."""
    rate: Rate | None = None
    """How many may begin in a stretch of time."""
    rate_per_key: Rate | None = None
    """How many of one ``partition_key`` may begin in a stretch of time."""
    fair: bool = False
    """Whether the partition keys take turns, instead of first come, first served."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """Turns that a partition key gets where others get one."""

    def __post_init__(self) -> None:
        checks.check_choice(self.counts, name="counts", choices=COUNTED, owner=_OWNER)
        for name in ("concurrency", "concurrency_per_worker", "concurrency_per_key"):
            if getattr(self, name) is not None:
                checks.check_count(getattr(self, name), name=name, owner=_OWNER)
        for name in ("rate", "rate_per_key"):
            if not isinstance(getattr(self, name), Rate | None):
                raise DefinitionError(
                    f"{_OWNER}: {name} must be a Rate or None, not {getattr(self, name)!r}; "
                    "such as Rate(100, per=timedelta(minutes=1))."
                )
        checks.check_flag(self.fair, name="fair", owner=_OWNER)
        _check_weights(self.weights)

    @property
    def has_limits(self) -> bool:
        """Whether anything is counted at all."""
        return self.limits_keys or any((self.concurrency, self.concurrency_per_worker, self.rate))

    @property
    def limits_keys(self) -> bool:
        """Whether a limit holds for each partition key."""
        return self.concurrency_per_key is not None or self.rate_per_key is not None

    def counts_what(self, kind: Counted) -> bool:
        """Whether limits hold for this kind of work."""
        return self.counts == kind and self.has_limits

    def takes_turns(self, kind: Counted) -> bool:
        """Whether the partition keys take turns in this kind of work: a limit for each key needs that too."""
        return self.fair or (self.counts == kind and self.limits_keys)

    def governs(self, kind: Counted) -> bool:
        """Whether this kind of work is claimed under the queue's lock."""
        return self.counts_what(kind) or self.takes_turns(kind)

    def weight(self, key: str) -> int:
        """Turns that this partition key gets in a row."""
        return self.weights.get(key, 1)


class QueueChanges(TypedDict, total=False):
    """What ``set_queue()`` takes."""

    counts: Counted
    concurrency: int | None
    concurrency_per_worker: int | None
    concurrency_per_key: int | None
    rate: Rate | None
    rate_per_key: Rate | None
    fair: bool
    weights: Mapping[str, int]


KNOWN = frozenset(option.name for option in fields(QueueOptions))
_OWNER = "A queue"


def check_name(name: Any) -> None:
    """Refuse what cannot be the name of a queue."""
    checks.check_text(name, what="The name of a queue", limit=NAME_LIMIT)


def check_key(key: Any, *, owner: str) -> None:
    """Refuse what cannot be a partition key."""
    checks.check_text(key, what=f"{owner}: partition_key", limit=KEY_LIMIT)


def _check_weights(weights: Any) -> None:
    if not isinstance(weights, Mapping):
        raise DefinitionError(f'{_OWNER}: weights must be a mapping, such as {{"acme": 5}}, not {weights!r}.')
    for key, weight in weights.items():
        checks.check_text(key, what=f"{_OWNER}: a key of weights", limit=KEY_LIMIT, empty=True)
        if not isinstance(weight, int) or isinstance(weight, bool) or not 1 <= weight <= HEAVIEST:
            raise DefinitionError(
                f"{_OWNER}: the weight of {key!r} must be a whole number from 1 to {HEAVIEST:,}, not {weight!r}."
            )
