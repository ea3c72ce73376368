"""Signals that tell what the library does, for logs, metrics and traces.

Connect to them as to any Django signal. Receivers run where the thing happens, often in the worker's engine thread:
they must be quick, and what they raise is logged and goes no further. ``sender`` is always None.
"""

from __future__ import annotations

import logging
from typing import Any

from django.dispatch import Signal

logger = logging.getLogger("django_durable")

run_started = Signal()
"""A start has committed, in the process that called it. ``queue``, ``count``: how many runs at once."""

run_closed = Signal()
"""A run has ended. ``workflow_id``, ``run_id``, ``name``, ``status``."""

history_long = Signal()
"""A run has 10,000 events: it should continue as new. ``workflow_id``, ``run_id``, ``name``, ``events``."""

run_blocked = Signal()
"""A run is parked until other code comes. ``workflow_id``, ``run_id``, ``name``, ``block``: the reason."""

workflow_stuck = Signal()
"""Workflow code keeps the engine thread and awaits nothing. ``workflow_id``, ``run_id``, ``name``, ``seconds``,
``where``: file and line."""

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


def send(signal: Signal, **named: Any) -> None:
    """Tell all receivers. Never raises; costs next to nothing while there are none."""
    if not signal.receivers:
        return
    try:
        signal.send_robust(sender=None, **named)
    except Exception:  # a receiver's own error is caught and logged by Django; this is Django's
        logger.exception("A receiver of an instrumentation signal could not be called.")
