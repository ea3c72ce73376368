"""Failed attempts as log records and signals: a warning while another attempt follows, one error at the last.

The message's template holds no ids, which are fields of the record: whoever groups errors groups by what went wrong.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django_durable import instrumentation
from django_durable.history.failures import Failure
from django_durable.worker.jobs import Job

if TYPE_CHECKING:
    from django_durable.worker.ownership import OwnedRun

logger = logging.getLogger("django_durable.activity")


def fields(job: Job) -> dict[str, Any]:
    """What log records about an attempt carry besides their message."""
    return {
        "workflow_id": job.workflow_id,
        "run_id": str(job.run_id),
        "activity": job.definition.name,
        "attempt": job.attempt,
        "queue": job.queue,
    }


def fields_of_run(run: OwnedRun) -> dict[str, Any]:
    """What log records about a run carry besides their message."""
    return {
        "workflow": run.definition.name,
        "workflow_id": run.workflow_id,
        "run_id": str(run.claimed.run_id),
        "queue": run.claimed.queue,
    }


def tell(job: Job, failure: Failure, delay: timedelta | None, exception: BaseException | None = None) -> None:
    """The attempt has failed; ``delay``: until the next one, None if this was the last.

    ``exception``: what was raised, if that was in this process.
    """
    if delay is None:
        logger.error(
            "Activity %s has failed: %s: %s",
            job.definition.name, failure.type, one_line(failure.message),
            exc_info=exception, extra=fields(job),
        )  # fmt: skip
    else:
        logger.warning(
            "Activity %s failed and is tried again in %.1f s: %s: %s",
            job.definition.name, delay.total_seconds(), failure.type, one_line(failure.message),
            extra=fields(job),
        )  # fmt: skip
    instrumentation.send(
        instrumentation.activity_failed,
        workflow_id=job.workflow_id,
        run_id=job.run_id,
        name=job.definition.name,
        attempt=job.attempt,
        queue=job.queue,
        error=failure,
        exception=exception,
        delay=delay,
    )


def one_line(text: str) -> str:
    """One line whatever is in it: ids and messages are the users'."""
    return text.encode("unicode_escape").decode() if not text.isprintable() else text
