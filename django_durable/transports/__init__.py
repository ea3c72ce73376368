"""Wake-ups: which transports this project uses, and the two hints that go through all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

from django_durable import conf
from django_durable.exceptions import DefinitionError
from django_durable.store import database
from django_durable.transports.base import Transport
from django_durable.transports.polling import PollingTransport
from django_durable.transports.postgres import PostgresTransport

logger = logging.getLogger("django_durable.transports")

KINDS: dict[str, Callable[[], Transport]] = {"polling": PollingTransport, "postgres": PostgresTransport}


SCHEDULES = "durable schedules"
"""What every worker listens to beside its queues: a schedule has changed."""


def names() -> tuple[str, ...]:
    """The transports that the settings name, or the best one for the database."""
    chosen = conf.current().TRANSPORTS
    if chosen is not None:
        return tuple(chosen)
    return ("postgres",) if database.is_postgres() else ("polling",)


def all() -> list[Transport]:
    """The transports in use."""
    return [_transport(name) for name in names()]


def hint_work(queue: str) -> None:
    """Something in ``queue`` is due. Never raises."""
    for transport in all():
        try:
            transport.work(queue)
        except Exception as error:
            logger.debug("A wake-up for queue %s was lost: %s", queue, error)


def hint_schedules() -> None:
    """A schedule has changed. Never raises."""
    hint_work(SCHEDULES)


def hint_message(worker: int) -> None:
    """A chain of ``worker`` has a message. Never raises."""
    for transport in all():
        try:
            transport.message(worker)
        except Exception as error:
            logger.debug("A wake-up for worker %s was lost: %s", worker, error)


@cache
def _transport(name: str) -> Transport:
    kind = KINDS.get(name)
    if kind is None:
        raise DefinitionError(f"DURABLE['TRANSPORTS'] names {name!r}; there is {', '.join(sorted(KINDS))}.")
    return kind()
