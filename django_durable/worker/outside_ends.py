"""Owned runs that end without their code: they have timed out, or were cancelled before they began."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

from django_durable.history.status import Status
from django_durable.store import claims, outside
from django_durable.worker.flushing import Flusher
from django_durable.worker.holdings import Holdings
from django_durable.worker.ownership import OwnedRun

BUSY_PAUSES = (0.05, 1.0)  # seconds, before a run whose row somebody holds is tried again

Verb = Callable[[int, Sequence[claims.Claimed]], outside.Fates]


class OutsideEnds:
    """Writes their ends in a transaction apart from the flush: nothing that is in memory of them matters any more."""

    def __init__(
        self,
        worker: int,
        *,
        holdings: Holdings,
        flusher: Flusher,
        ended: Callable[[OwnedRun, Status], None],
        lost: Callable[[OwnedRun], None],
        told: Callable[[set[UUID]], None],
    ) -> None:
        """``ended`` is told of runs that this has ended, ``lost`` of those that were not this worker's any more.

        ``told`` hears of chains that have got messages.
        """
        self._worker = worker
        self._holdings = holdings
        self._flusher = flusher
        self._ended = ended
        self._lost = lost
        self._told = told
        self._waiting: dict[UUID, tuple[OwnedRun, Verb]] = {}

    @property
    def waits(self) -> bool:
        return bool(self._waiting)

    def add(self, run: OwnedRun, verb: Verb) -> None:
        """From now on the run's code does not run; ``verb`` writes its end."""
        run.ends_outside = True
        run.idle_since, run.busy_until = None, 0.0
        self._holdings.ready.pop(run.claimed.chain_id, None)
        self._waiting[run.claimed.chain_id] = run, verb

    def write(self) -> bool:
        """End what waits here and is not busy. False: nothing was."""
        if not self._waiting:
            return False
        before = len(self._waiting)
        now, verbs = time.monotonic(), defaultdict(list)
        for chain, (run, verb) in list(self._waiting.items()):
            if self._holdings.owned.get(chain) is not run:
                del self._waiting[chain]
            elif run.busy_until <= now:
                verbs[verb].append(run)
        for verb, runs in verbs.items():
            self._write(verb, runs)
        return len(self._waiting) < before

    def _write(self, verb: Verb, runs: Sequence[OwnedRun]) -> None:
        fates = self._flusher.persist(partial(verb, self._worker, [run.claimed for run in runs]))
        for run in runs:
            chain = run.claimed.chain_id
            if chain in fates.busy:
                run.busy_until = time.monotonic() + random.uniform(*BUSY_PAUSES)
                continue
            del self._waiting[chain]
            if chain in fates.ended:
                self._ended(run, fates.ended[chain])
            else:
                self._lost(run)
        self._told(fates.told)
