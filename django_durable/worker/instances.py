"""Live instances of runs that this worker has released, the least recently used leaving first."""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

from django_durable import conf
from django_durable.engine.instance import Instance
from django_durable.store import claims


class InstanceCache:
    """Spares a replay when a run comes back to the worker that had it last.

    An instance is good only for the claim that follows directly on the one it was released under: any claim in
    between may have written history.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[UUID, tuple[claims.Claimed, Instance]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, claimed: claims.Claimed, instance: Instance) -> None:
        """Remember the instance of a run that has just been released."""
        limit = conf.current().INSTANCE_CACHE_SIZE
        before = self._kept.pop(claimed.chain_id, None)
        if before is not None:
            before[1].evict()
        self._kept[claimed.chain_id] = (claimed, instance)
        while len(self._kept) > limit:
            _, (_, oldest) = self._kept.popitem(last=False)
            oldest.evict()

    def take(self, claimed: claims.Claimed) -> Instance | None:
        """The instance for this claim, if it is still good."""
        kept = self._kept.pop(claimed.chain_id, None)
        if kept is None:
            return None
        earlier, instance = kept
        if claimed.follows(earlier):
            return instance
        instance.evict()
        return None

    def clear(self) -> None:
        """Evict everything."""
        while self._kept:
            self._kept.popitem()[1][1].evict()
