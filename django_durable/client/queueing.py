"""Queues as people run them: limited, given turns, paused, without a deploy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from django_durable import transports
from django_durable.definitions import options as checks
from django_durable.definitions.queue import KNOWN, QueueChanges, QueueOptions, check_name
from django_durable.models import Queue
from django_durable.store import database, queues


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """How a queue is set up."""

    name: str
    paused: bool
    reason: str
    """Why it is paused, in the words of whoever did it."""
    options: QueueOptions


def set_queue(name: str, changes: QueueChanges) -> QueueStatus:
    """Change limits of a queue in the caller's transaction; what is not given stays as it is.

    Workers see it within about a second. A limit below what is running stops nothing: it lets nothing more in until
    enough has ended. Raises ``DefinitionError`` for unknown or wrong options.
    """
    check_name(name)
    checks.check_names(changes, known=KNOWN, owner=f"Queue {name}")
    with database.writing():
        row = queues.locked(name)
        queues.write(row, replace(queues.options_of(row), **changes))
        _wake(name)
        return _status(row)


def get_queue(name: str) -> QueueStatus:
    """How a queue is set up. One that nobody has set up has no limits."""
    check_name(name)
    return _status(queues.rows().filter(pk=name).first() or Queue(name=name))


def pause_queue(name: str, reason: str = "") -> bool:
    """Let no worker take anything from a queue, in the caller's transaction. False: it is paused already.

    Workers see it within about a second. What they have at that moment goes on to its end; workflows that they have go
    on until they call another activity of the queue.
    """
    check_name(name)
    with database.writing():
        row = queues.locked(name)
        if row.paused:
            return False
        row.paused, row.reason = True, reason
        row.save(using=database.alias(), update_fields=["paused", "reason"])
    return True


def resume_queue(name: str) -> bool:
    """Let workers take from a queue again. False: it was not paused."""
    check_name(name)
    with database.writing():
        changed = queues.rows().filter(pk=name, paused=True).update(paused=False, reason="")
        _wake(name)
    return bool(changed)


def _status(row: Queue) -> QueueStatus:
    return QueueStatus(name=row.name, paused=row.paused, reason=row.reason, options=queues.options_of(row))


def _wake(name: str) -> None:
    database.on_commit(partial(transports.hint_work, name))
