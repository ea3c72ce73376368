"""Telling of new runs, once they are committed: those who work on their queues, and those who count."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime
from functools import partial

from django_durable import instrumentation, transports
from django_durable.store import database, starts


def announce(started: Collection[starts.NewRun]) -> None:
    """There is work on their queues, now or later."""
    for queue, count in Counter(new.queue for new in started).items():
        database.on_commit(partial(transports.hint_work, queue))
        database.on_commit(partial(instrumentation.send, instrumentation.run_started, queue=queue, count=count))
    announce_delays(started)


def announce_delays(started: Collection[starts.NewRun]) -> None:
    """Where nobody waits for what is due later, somebody is to be there then."""
    for queue, seconds in {(new.queue, math.ceil(_until_due(new))) for new in started}:
        if seconds > 0:
            database.on_commit(partial(transports.hint_later, queue, seconds))


def _until_due(new: starts.NewRun) -> float:
    """Seconds until a run begins; 0 or less: it is due now."""
    if new.start_at is not None:
        return (new.start_at - datetime.now(UTC)).total_seconds()
    return new.delay.total_seconds() if new.delay is not None else 0.0
