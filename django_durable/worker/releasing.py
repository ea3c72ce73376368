"""Giving back runs that have nothing in flight, so that they cost no worker anything while they sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from django_durable.store import clock, dispatch, inbox, leases
from django_durable.worker.holdings import Holdings
from django_durable.worker.instances import InstanceCache
from django_durable.worker.ownership import OwnedRun
from django_durable.worker.taking import Taking


class Releaser:
    """Releases what has been idle for a while: the next result or message often comes at once."""

    def __init__(
        self,
        worker: int,
        *,
        holdings: Holdings,
        cache: InstanceCache,
        taking: Taking,
        time: clock.Estimate,
        linger: Callable[[], float],
        lost: Callable[[OwnedRun], None],
    ) -> None:
        """``linger``: seconds that an idle run stays. ``lost`` is told of runs that are not this worker's any more."""
        self._worker = worker
        self._holdings = holdings
        self._cache = cache
        self._taking = taking
        self._time = time
        self._linger = linger
        self._lost = lost

    def release(self, *, draining: bool) -> bool:
        """Give idle runs back, then look whether a message came meanwhile. False: there was none to give back."""
        linger = 0.0 if draining or self._taking.wants_quiet else self._linger()
        idle = self._idle(linger, draining=draining)
        if not idle:
            return False
        with leases.fenced(self._worker, flushed=False):
            released = dispatch.release(self._worker, [self._release_of(run) for run in idle])
        owned = dispatch.owned(self._worker) if len(released) < len(idle) else {}
        for run in idle:
            if run.claimed.chain_id in released:
                self._holdings.drop(run)
                self._keep(run)
            elif owned.get(run.claimed.chain_id) == run.claimed.epoch:
                run.idle_since = time.monotonic()  # somebody is ending it: the next round knows
            else:
                self._lost(run)
        waiting = inbox.read(released)  # after the commit: a look inside the transaction would prove nothing
        if waiting and dispatch.make_due(list(waiting)):
            self._taking.pace.hurry()
        return True

    def _keep(self, run: OwnedRun) -> None:
        if run.instance.tainted:  # not what its history makes of it
            run.instance.evict()
        else:
            self._cache.keep(run.claimed, run.instance)

    def _idle(self, linger: float, *, draining: bool) -> list[OwnedRun]:
        """Runs that have been idle for that long, apart from those whose timer is about to fire.

        Those of a paused workflow go at once.
        """
        now, paused = time.monotonic(), self._taking.paused
        soon = self._time.now() + timedelta(seconds=linger)
        idle = [
            run
            for run in self._holdings.owned.values()
            if run.idle_since is not None and (run.idle_since <= now - linger or run.definition.name in paused)
        ]
        idle = [run for run in idle if not run.ends_outside and not run.pauses]
        return [
            run for run in idle if draining or not run.timer or run.timer[0] > soon or run.definition.name in paused
        ]

    def _release_of(self, run: OwnedRun) -> dispatch.Release:
        times = [run.timer[0] if run.timer else None, run.claimed.deadline]
        if run.instance.unstarted:  # whoever has the run makes the starts of its children
            times.append(self._time.now())
        wakeup_at = min((time for time in times if time is not None), default=None)
        return dispatch.Release(run.claimed.chain_id, run.claimed.epoch, wakeup_at, run.progressed)
