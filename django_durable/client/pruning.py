"""Which workflows have been kept for long enough, and their end: found, exported if that is wanted, deleted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from django_durable import conf
from django_durable.client import exporting
from django_durable.definitions.registry import registry
from django_durable.definitions.retention import CONTINUED, ENDS, Keeps, Policy
from django_durable.exceptions import UnknownDefinition
from django_durable.payloads import sealing
from django_durable.store import pruning, remains
from django_durable.store.pruning import Chain, Place

BATCH = 200  # chains that are looked at together
FAMILY = 1_000  # chains that go at once: the children of a larger family follow their parent
RUNS = 2_000  # in one file and one transaction, unless a single chain has more
"""How much of it may be done at a time."""

Family = list[Chain]
"""A chain that nobody has started as a child, or whose parent is gone, and all that it has started."""

Marks = dict[tuple[str, str], Place]
"""How far a search has come, by name and status."""


def policy_of(name: str) -> Keeps | None:
    """How long chains of a workflow are kept, by status; None: this process cannot know.

    The declaration has its say, and only a process that has the code knows it.
    """
    settings = Policy(conf.current().RETENTION)
    try:
        return settings.of(name, registry.workflow(name).retention)
    except UnknownDefinition:
        return settings.of(name, {}) if name in settings.names else None


def names() -> list[str]:
    """The workflows that have a policy here under which something is deleted."""
    known = {one.name for one in registry.workflows()} | Policy(conf.current().RETENTION).names
    return sorted(name for name in known if any((policy_of(name) or {}).values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What may go at ``now``. ``before``: whatever ended before then, instead of what the policies say.

    ``statuses``: of the chains that begin a family; None: all.
    """

    now: datetime
    before: datetime | None = None
    statuses: Collection[str] | None = None
    policies: dict[str, Keeps | None] = field(default_factory=dict, init=False)

    def policy(self, name: str) -> Keeps | None:
        """``policy_of`` that name, asked once."""
        if name not in self.policies:
            self.policies[name] = policy_of(name)
        return self.policies[name]

    def limits(self, name: str) -> dict[str, datetime]:
        """By status before when a chain of that workflow must have ended to go."""
        if self.before is not None:
            limits = dict.fromkeys(ENDS, self.before)
        else:
            policy = self.policy(name) or {}
            limits = {status: self.now - keep for status in ENDS if (keep := policy.get(status)) is not None}
        return {status: limit for status, limit in limits.items() if self.statuses is None or status in self.statuses}

    def limit_of_continued(self, name: str) -> datetime | None:
        """Before when a run of that workflow must have continued as new to go, while its chain goes on; None: none may.

        Without a policy that has to be asked for by the status.
        """
        asked = self.statuses is not None and CONTINUED in self.statuses
        if self.before is not None:
            return self.before if asked else None
        keep = (self.policy(name) or {}).get(CONTINUED) if asked or self.statuses is None else None
        return self.now - keep if keep is not None else None

    def lets_go(self, child: Chain) -> bool:
        """Whether a chain may go with the one that has started it: where nobody has said, the parent decides."""
        last = child.last
        if last.closed_at is None:
            return False
        if self.before is not None:
            return last.closed_at < self.before
        policy = self.policy(last.name)
        if policy is None:
            return False
        keep = policy.get(last.status, timedelta(0))
        return keep is not None and last.closed_at < self.now - keep


def expired(name: str, rules: Rules, *, marks: Marks | None = None) -> Iterator[list[Family]]:
    """The families that may go, the oldest first, in batches; some may be empty.

    ``marks`` are where to go on, by name and status: they move with each batch, and are gone at the end.
    """
    for status, limit in rules.limits(name).items():
        for run_ids in _ended(name, status, limit, marks):
            yield _families(run_ids, rules)


def continued(name: str, rules: Rules, *, marks: Marks | None = None) -> Iterator[list[UUID]]:
    """The runs that may leave the middle of their chain, the oldest first, in batches. ``marks``: as for ``expired``.

    None while a codec keeps values elsewhere: runs of a chain may share such a value.
    """
    limit = rules.limit_of_continued(name)
    if limit is not None and not sealing.current().offloading:
        yield from _ended(name, CONTINUED, limit, marks)


def _ended(name: str, status: str, limit: datetime, marks: Marks | None) -> Iterator[list[UUID]]:
    marks = {} if marks is None else marks
    while True:
        places = pruning.ended(name, status, limit, after=marks.get((name, status)), limit=BATCH)
        if places:
            marks[name, status] = places[-1]
            yield [place.run_id for place in places]
        if len(places) < BATCH:
            marks.pop((name, status), None)
            break


def _families(run_ids: Sequence[UUID], rules: Rules) -> list[Family]:
    """Of chains of which one of these is the last run, and that are no children of any that is still there."""
    wanted = set(run_ids)
    heads = [chain for chain in pruning.chains_of(run_ids) if chain.last.run_id in wanted]
    there = pruning.still_there({head.last.parent_run_id for head in heads if head.last.parent_run_id is not None})
    families = {head.chain_id: [head] for head in heads if head.last.parent_run_id not in there}
    _add_children(families, rules)
    awaited = pruning.awaited([chain.chain_id for family in families.values() for chain in family])
    return [family[:FAMILY] for family in families.values() if awaited.isdisjoint(chain.chain_id for chain in family)]


def _add_children(families: dict[UUID, Family], rules: Rules) -> None:
    """Level by level. A family of which one must stay is taken out: it stays together."""
    root_of = {head: head for head in families}
    level = set(families)
    while level:
        children = [chain for chain in pruning.children_of(level) if chain.chain_id not in root_of]
        level = set()
        for child in children:
            assert child.last.parent_chain_id is not None
            root = root_of[child.last.parent_chain_id]
            root_of[child.chain_id] = root
            if root not in families:
                continue
            if rules.lets_go(child):
                families[root].append(child)
                level.add(child.chain_id)
            else:
                del families[root]


def delete(families: Sequence[Family], *, export: Path | None = None) -> list[Chain]:
    """Delete these families, each as a whole, and return the chains that have gone; their events follow.

    With ``export`` they are written into files there before; what is deleted is in a file that is on the disk. A chain
    may be in two files, if this process dies in between. Raises what ``exporting.write`` does.
    """
    gone: list[Chain] = []
    for part in _parts(families):
        if export is not None:
            exporting.write(export, [run.run_id for family in part for chain in family for run in chain.runs])
        gone += pruning.bury(part)
    return gone


def shorten(run_ids: Sequence[UUID], *, export: Path | None = None) -> list[UUID]:
    """Delete these runs out of the middle of their chains, as ``delete`` does; returns those that have gone."""
    if export is not None and run_ids:
        exporting.write(export, list(run_ids))
    return pruning.shorten(run_ids)


def _parts(families: Sequence[Family]) -> Iterator[list[Family]]:
    """So many at a time that a transaction stays short."""
    part: list[Family] = []
    count = 0
    for family in families:
        size = sum(len(chain.runs) for chain in family)
        if part and count + size > RUNS:
            yield part
            part, count = [], 0
        part.append(family)
        count += size
    if part:
        yield part


def clear(enough: Callable[[], bool] = lambda: False) -> None:
    """Delete the events of runs that are gone, until ``enough()``; what others are at is left to them."""
    while not enough():
        slices = remains.next_slices()
        if not slices or not remains.clear(slices):
            break
