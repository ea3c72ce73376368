"""Wake-ups: which transports this project uses, and the two hints that go through all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django_durable.exceptions import DefinitionError
from django_durable.transports import choice
from django_durable.transports.base import Transport

logger = logging.getLogger("django_durable.transports")

SCHEDULES = "durable schedules"
"""What every worker listens to beside its queues: a schedule has changed."""


def all() -> list[Transport]:
    """The transports in use. Raises ``DefinitionError`` if the settings are wrong."""
    return choice.current()


def hint_work(queue: str) -> None:
    """Something in ``queue`` is due. Never raises."""
    _hint(lambda transport: transport.work(queue), f"queue {queue}")


def hint_later(queue: str, seconds: float) -> None:
    """Something in ``queue`` will be due in so many seconds, and no worker waits for that. Never raises."""
    _hint(lambda transport: transport.later(queue, seconds), f"queue {queue}")


def rest(seconds: float) -> None:
    """This process may be frozen now: send all hints, within so many seconds, and keep no thread. Never raises."""
    _hint(lambda transport: transport.rest(seconds), "all queues")


def hint_schedules() -> None:
    """A schedule has changed. Never raises."""
    hint_work(SCHEDULES)


def hint_message(worker: int) -> None:
    """A chain of ``worker`` has a message. Never raises."""
    _hint(lambda transport: transport.message(worker), f"worker {worker}")


def _hint(give: Callable[[Transport], None], to: str) -> None:
    try:
        chosen = all()
    except DefinitionError as error:  # what was written is committed: workers find it when they look
        logger.error("A wake-up for %s cannot be sent: %s", to, error)
        return
    for transport in chosen:
        try:
            give(transport)
        except Exception as error:
            logger.debug("A wake-up for %s was lost: %s", to, error)
