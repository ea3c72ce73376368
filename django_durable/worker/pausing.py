"""Owned runs that are to be paused: they are given back as they are, with what runs handed over."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from uuid import UUID

from django_durable.store import dispatch, holds, leases
from django_durable.store.holds import Fate
from django_durable.worker.flushing import Flusher
from django_durable.worker.holdings import Holdings
from django_durable.worker.ownership import OwnedRun
from django_durable.worker.parking import Parking

BUSY_PAUSES = (0.05, 1.0)  # seconds, before a run whose row somebody holds is tried again


class Pausing:
    """Nothing more is applied to these runs. What is drawn up already is written first."""

    def __init__(
        self,
        worker: int,
        *,
        holdings: Holdings,
        flusher: Flusher,
        parking: Parking,
        lost: Callable[[OwnedRun], None],
    ) -> None:
        """``lost`` is told of runs that turn out not to be this worker's any more."""
        self._worker = worker
        self._holdings = holdings
        self._flusher = flusher
        self._parking = parking
        self._lost = lost
        self._waiting: dict[UUID, OwnedRun] = {}
        self._results: dict[Fate, Callable[[OwnedRun], None]] = {
            Fate.PAUSED: self._paused,
            Fate.GOING: self._goes_on,
            Fate.BUSY: self._busy,
            Fate.GONE: self._gone,
        }

    @property
    def waits(self) -> bool:
        return bool(self._waiting)

    def add(self, run: OwnedRun) -> None:
        """The run's row may say that it is paused: look, and give it back if so."""
        run.pauses = True
        run.idle_since = None
        self._waiting[run.claimed.chain_id] = run

    def write(self) -> bool:
        """Pause what can be paused now. False: nothing could."""
        worked = False
        for chain, run in list(self._waiting.items()):
            if self._holdings.owned.get(chain) is not run or run.ends_outside:
                del self._waiting[chain]
            elif not run.wants_write and run.busy_until <= time.monotonic():
                worked |= self._write(run)
        return worked

    def _write(self, run: OwnedRun) -> bool:
        if not self._parking.spill_in_place(run):
            self._busy(run)
            return False
        fate = self._flusher.persist(partial(self._settle, run))
        if fate is not Fate.BUSY:
            del self._waiting[run.claimed.chain_id]
        self._results[fate](run)
        return fate is not Fate.BUSY

    def _settle(self, run: OwnedRun) -> Fate:
        with leases.fenced(self._worker):
            fate = holds.settle(self._worker, run.claimed)
            if fate is Fate.PAUSED:
                self._parking.keep_outcomes(run, run.inputs)
            elif fate is Fate.GOING and not run.is_loaded:
                dispatch.give_up(self._worker, [run.claimed.chain_id])
        return fate

    def _paused(self, run: OwnedRun) -> None:
        self._holdings.drop(run)
        run.instance.evict()

    def _goes_on(self, run: OwnedRun) -> None:
        if run.is_loaded:
            run.pauses = False
            self._holdings.wake(run)
        else:
            self._holdings.drop(run)

    def _busy(self, run: OwnedRun) -> None:
        run.busy_until = time.monotonic() + random.uniform(*BUSY_PAUSES)

    def _gone(self, run: OwnedRun) -> None:
        self._lost(run)
