"""Signals that tell what the library does, for logs, metrics and traces.

Connect to them as to any Django signal. Receivers run where the thing happens, often in the worker's engine thread:
they must be quick, and what they raise is logged and goes no further. ``sender`` is always None.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from django.dispatch import Signal

logger = logging.getLogger("django_durable")

run_started = Signal()
"""A start has committed that made runs, in the process that called it. ``queue``, ``count``: how many at once."""

run_closed = Signal()
"""A run has ended, which is told once, and never by a replay. ``workflow_id``, ``run_id``, ``name``, ``queue``,
``status``, ``started_at`` (None: its code was not loaded), ``closed_at``, ``headers``: what surrounds it, as it is
stored, ``failure``: its JSON, or None."""

history_long = Signal()
"""A run has 10,000 events: it should continue as new. ``workflow_id``, ``run_id``, ``name``, ``events``."""

run_blocked = Signal()
"""A run is parked until other code comes. ``workflow_id``, ``run_id``, ``name``, ``block``: the reason."""

workflow_stuck = Signal()
"""Workflow code keeps the engine thread and awaits nothing. ``workflow_id``, ``run_id``, ``name``, ``seconds``,
``where``: file and line."""

activity_failed = Signal()
"""An attempt has failed; sent where that was noticed, usually in its own thread. ``workflow_id``, ``run_id``, ``name``,
``attempt``, ``queue``, ``error``, ``exception`` (None: it was not raised in this process), ``delay``: a timedelta until
the next attempt, None if this was the last."""

activity_started = Signal()
"""The engine has begun an attempt. ``workflow_id``, ``run_id``, ``name``, ``attempt``, ``queue``."""

activity_ended = Signal()
"""An attempt has ended, and its slot is free. ``workflow_id``, ``run_id``, ``name``, ``attempt``, ``queue``,
``seconds``, ``outcome``: ``completed``, ``retried``, ``failed``, ``timed_out``, ``cancelled``, ``later`` (by its token)
or ``lost`` (somebody else has decided)."""

activity_retried = Signal()
"""Another attempt is due. ``workflow_id``, ``run_id``, ``name``, ``attempt`` that failed, ``error``,
``delay``: a timedelta."""

worker_started = Signal()
"""A worker has registered. ``worker``: its id, ``queues``."""

worker_stopped = Signal()
"""A worker has ended in order. ``worker``, ``seconds`` that it ran."""

worker_fenced = Signal()
"""A worker found itself declared dead and begins again. ``worker``: the old id."""

worker_died = Signal()
"""A worker was declared dead. ``worker``: the dead one's id, ``by``: who did."""

engine_lagging = Signal()
"""The engine thread runs late. ``worker``, ``seconds`` behind."""

flush_done = Signal()
"""A group commit is through. ``worker``, ``runs`` and ``events`` that are written, ``seconds``."""


class Surrounding:
    """Blocks that are entered around a piece of work, by those who want to be there: traces, for example.

    What making or entering one raises is logged, and the work goes on without it.
    """

    def __init__(self) -> None:
        self._makers: list[Callable[..., AbstractContextManager[object]]] = []

    def connect(self, make: Callable[..., AbstractContextManager[object]]) -> None:
        """From now on enter ``make(**named)`` around each; once, however often it is connected."""
        if make not in self._makers:
            self._makers.append(make)

    def disconnect(self, make: Callable[..., AbstractContextManager[object]]) -> None:
        if make in self._makers:
            self._makers.remove(make)

    def __call__(self, **named: Any) -> AbstractContextManager[object]:
        return self._entered(named) if self._makers else _NOTHING

    @contextmanager
    def _entered(self, named: dict[str, Any]) -> Iterator[None]:
        with ExitStack() as stack:
            for make in self._makers:
                try:
                    stack.enter_context(make(**named))
                except Exception:
                    logger.exception("A block around %s could not be entered.", ", ".join(named.values()))
            yield


starting = Surrounding()
"""Around a start, where it is asked for. ``name`` of the workflow; of many at once, of the first."""

attempting = Surrounding()
"""Around the code of an attempt, where it runs; what it needs to know is ``durable.current_activity()``. ``name``."""

_NOTHING: AbstractContextManager[object] = nullcontext()


def send(signal: Signal, **named: Any) -> None:
    """Tell all receivers. Never raises; costs next to nothing while there are none."""
    if not signal.receivers:
        return
    try:
        signal.send_robust(sender=None, **named)
    except Exception:  # a receiver's own error is caught and logged by Django; this is Django's
        logger.exception("A receiver of an instrumentation signal could not be called.")
