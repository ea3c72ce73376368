"""Instrumentation as log lines. The library logs under ``django_durable``; the project decides what becomes of it."""

from __future__ import annotations

import logging
from typing import Any

from django_durable import instrumentation

logger = logging.getLogger("django_durable.worker")

LEVELS = {0: logging.ERROR, 1: logging.INFO, 2: logging.DEBUG, 3: logging.DEBUG}


def configure(verbosity: int) -> None:
    """Give the library's logger a handler for the terminal, unless the project has configured one, and log events."""
    root = logging.getLogger("django_durable")
    if not root.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
        root.addHandler(handler)
        root.setLevel(LEVELS[verbosity])
    for event, receiver in RECEIVERS:
        event.connect(receiver, dispatch_uid=f"durable.logs.{receiver.__name__}")


def _started(*, worker: int, queues: tuple[str, ...], **_: Any) -> None:
    logger.info("Worker %s serves %s.", worker, ", ".join(queues))


def _stopped(*, worker: int, seconds: float, **_: Any) -> None:
    logger.info("Worker %s ends after %.0f s.", worker, seconds)


def _closed(*, workflow_id: str, name: str, status: str, **_: Any) -> None:
    level = logging.WARNING if status == "failed" else logging.DEBUG
    logger.log(level, "Workflow %s (%s) is %s.", _line(name), _line(workflow_id), status)


def _blocked(*, workflow_id: str, name: str, block: Any, **_: Any) -> None:
    logger.error("Workflow %s (%s) is blocked: %s", _line(name), _line(workflow_id), _line(block.message))


def _retried(*, workflow_id: str, name: str, attempt: int, error: Any, delay: Any, **_: Any) -> None:
    logger.warning(
        "Activity %s of %s failed (attempt %d), next in %.1f s: %s: %s",
        _line(name), _line(workflow_id), attempt, delay.total_seconds(), error.type, _line(error.message),
    )  # fmt: skip


def _lagging(*, worker: int, seconds: float, **_: Any) -> None:
    logger.debug(
        "The engine of worker %s woke up %.0f ms late: do its activities compute for long? Fewer slots, or a worker "
        "of their own, would help.",
        worker,
        seconds * 1000,
    )


def _line(text: str) -> str:
    """One line whatever is in it: ids and messages are the users'."""
    return text.encode("unicode_escape").decode() if not text.isprintable() else text


RECEIVERS = (
    (instrumentation.worker_started, _started),
    (instrumentation.worker_stopped, _stopped),
    (instrumentation.run_closed, _closed),
    (instrumentation.run_blocked, _blocked),
    (instrumentation.activity_retried, _retried),
    (instrumentation.engine_lagging, _lagging),
)
