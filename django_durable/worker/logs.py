"""Instrumentation as log lines. The library logs under ``django_durable``; the project decides what becomes of it."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

import msgspec

from django_durable import instrumentation
from django_durable.exceptions import ActivityError, ChildWorkflowError
from django_durable.history.failures import Failure
from django_durable.worker.reporting import one_line

logger = logging.getLogger("django_durable.worker")

TOLD_ELSEWHERE = {ActivityError.__name__, ChildWorkflowError.__name__}  # the activity's failure is an error already
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


def _closed(
    *, workflow_id: str, run_id: UUID, name: str, queue: str, status: str, failure: str | None, **_: Any
) -> None:
    extra = {"workflow": name, "workflow_id": workflow_id, "run_id": str(run_id), "queue": queue}
    if status != "failed" or failure is None:
        logger.debug("Workflow %s (%s) is %s.", one_line(name), one_line(workflow_id), status, extra=extra)
        return
    reason = msgspec.json.decode(failure, type=Failure)
    level = logging.WARNING if reason.type in TOLD_ELSEWHERE else logging.ERROR
    # The name and the type are parts of the template: without an exception it is what errors are grouped by.
    what = f"Workflow {one_line(name)} has failed with {one_line(reason.type)}".replace("%", "%%")
    logger.log(level, what + ": %s", one_line(reason.message), extra=extra)


def _blocked(*, workflow_id: str, run_id: UUID, name: str, block: Any, **_: Any) -> None:
    extra = {"workflow": name, "workflow_id": workflow_id, "run_id": str(run_id)}
    text = "Workflow %s (%s) is blocked: %s"
    logger.error(text, one_line(name), one_line(workflow_id), one_line(block.message), extra=extra)


def _lagging(*, worker: int, seconds: float, **_: Any) -> None:
    logger.debug(
        "The engine of worker %s woke up %.0f ms late: do its activities compute for long? Fewer slots, or a worker "
        "of their own, would help.",
        worker,
        seconds * 1000,
    )


RECEIVERS = (
    (instrumentation.worker_started, _started),
    (instrumentation.worker_stopped, _stopped),
    (instrumentation.run_closed, _closed),
    (instrumentation.run_blocked, _blocked),
    (instrumentation.engine_lagging, _lagging),
)
