"""``{% load durable %}``: what templates show of workflows."""

from __future__ import annotations

import json
from typing import Any

from django import template
from django.template import Context
from django.utils.translation import gettext

from django_durable import client
from django_durable.client import WorkflowHandle, WorkflowStatus, reading
from django_durable.history.status import Status
from django_durable.models import WorkflowRun

register = template.Library()

WORDS = {
    Status.PENDING: "Waiting to begin",
    Status.RUNNING: "In progress",
    Status.PAUSED: "Paused",
    Status.BLOCKED: "Waiting",
    Status.COMPLETED: "Done",
    Status.FAILED: "Failed",
    Status.CANCELLED: "Cancelled",
    Status.TERMINATED: "Stopped",
    Status.TIMED_OUT: "Timed out",
    Status.CONTINUED_AS_NEW: "In progress",
}
"""What visitors read. A project translates these in its own catalogue, or overrides the template."""


@register.inclusion_tag("django_durable/progress.html", takes_context=True)
def durable_progress(
    context: Context, run: WorkflowStatus | WorkflowHandle[Any] | WorkflowRun | str, url: str = ""
) -> dict[str, Any]:
    """How a workflow is, as text and a bar: ``{% durable_progress handle url %}``.

    ``run`` is a status, a handle, a row of ``WorkflowRun`` or a workflow id; raises ``WorkflowNotFound``. ``url`` is
    the application's own view of the status as JSON, which the page polls until the run has ended; without it what is
    shown stays as it is.
    """
    status = _status_of(run)
    words = {one.value: gettext(word) for one, word in WORDS.items()}
    request = context.get("request")
    progress = status.progress or {}
    total = progress.get("total")
    return {
        "state": status.status.value,
        "word": words[status.status.value],
        "text": "" if status.is_closed else progress.get("text", ""),
        "done": progress.get("done"),
        "total": total if total and total > 0 else None,
        "error": status.error_message or "",
        "is_closed": status.is_closed,
        "is_completed": status.status is Status.COMPLETED,
        "url": "" if status.is_closed else url,
        "words": json.dumps(words),
        "lost": gettext("No news just now. Trying again."),
        "gone": gettext("Reload the page to see more."),
        "refresh": request.get_full_path() if request is not None else "",
        "csp_nonce": context.get("csp_nonce"),
    }


def _status_of(run: WorkflowStatus | WorkflowHandle[Any] | WorkflowRun | str) -> WorkflowStatus:
    match run:
        case WorkflowStatus():
            return run
        case WorkflowHandle():
            return run.status()
        case WorkflowRun():
            return reading.status_of(run)
        case str() if run:
            return client.get_workflow_status(run)
        case _:
            raise template.TemplateSyntaxError(
                f"durable_progress shows a status, a handle, a run or a workflow id, not {run!r}."
            )
