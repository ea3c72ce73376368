"""What staff can do to runs: each act is a public verb, for one run or for many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.db.models import QuerySet

from django_durable import client
from django_durable.client import BulkResult, WorkflowHandle, resetting
from django_durable.history.status import OPEN, Status


class ReasonForm(forms.Form):
    """Why it is done, for the history of the run."""

    reason = forms.CharField(required=False, max_length=1_000, widget=forms.TextInput(attrs={"size": 60}))


class ResetForm(ReasonForm):
    """Where to go back to."""

    to_event = forms.IntegerField(min_value=1, help_text="Number of the event to go back to; see the history.")
    reapply_signals = forms.BooleanField(required=False, initial=True, help_text="Send later signals once more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """``one`` returns the run that is to be looked at afterwards, or None if there was nothing to do.

    ``warns`` is said before it is done; ``many`` None: for one run only.
    """

    title: str
    done: str
    warns: str
    statuses: frozenset[Status]
    one: Callable[[WorkflowHandle[Any], dict[str, Any]], WorkflowHandle[Any] | None]
    many: Callable[[QuerySet[Any], str], BulkResult] | None = None
    form: type[ReasonForm] = ReasonForm

    def applies_to(self, status: str) -> bool:
        return status in self.statuses


def _cancel(handle: WorkflowHandle[Any], given: dict[str, Any]) -> WorkflowHandle[Any] | None:
    return handle if handle.cancel(given["reason"]) else None


def _terminate(handle: WorkflowHandle[Any], given: dict[str, Any]) -> WorkflowHandle[Any] | None:
    return handle if handle.terminate(given["reason"]) else None


def _pause(handle: WorkflowHandle[Any], given: dict[str, Any]) -> WorkflowHandle[Any] | None:
    return handle if handle.pause(given["reason"]) else None


def _resume(handle: WorkflowHandle[Any], given: dict[str, Any]) -> WorkflowHandle[Any] | None:
    return handle if handle.resume() else None


def _retry(handle: WorkflowHandle[Any], given: dict[str, Any]) -> WorkflowHandle[Any] | None:
    return handle.retry_failed(given["reason"])


def _reset(handle: WorkflowHandle[Any], given: dict[str, Any]) -> WorkflowHandle[Any] | None:
    return handle.reset(**given)


ACTS = {
    "cancel": Act(
        title="Cancel",
        done="asked to end",
        warns="The code is asked to end, and can clean up first.",
        statuses=OPEN,
        one=_cancel,
        many=client.cancel_workflows,
    ),
    "terminate": Act(
        title="Terminate",
        done="terminated",
        warns="It ends at once, without a chance to clean up. This cannot be undone.",
        statuses=OPEN,
        one=_terminate,
        many=client.terminate_workflows,
    ),
    "pause": Act(
        title="Pause",
        done="paused",
        warns="Nothing more is done until it is resumed. Messages are kept, and time limits go on.",
        statuses=OPEN - {Status.PAUSED},
        one=_pause,
        many=client.pause_workflows,
    ),
    "resume": Act(
        title="Resume",
        done="resumed",
        warns="What came or fell due meanwhile is done next.",
        statuses=frozenset({Status.PAUSED}),
        one=_resume,
        many=lambda queryset, reason: client.resume_workflows(queryset),
    ),
    "retry": Act(
        title="Retry",
        done="retried",
        warns="It goes on where it failed, with the code of today. Compensations that were carried out are not undone.",
        statuses=resetting.RETRIED,
        one=_retry,
        many=client.retry_failed,
    ),
    "reset": Act(
        title="Reset",
        done="reset",
        warns="It is done once more from an earlier point, as a new run. A run that is open ends as terminated.",
        statuses=frozenset(Status),
        one=_reset,
        form=ResetForm,
    ),
}
