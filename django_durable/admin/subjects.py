"""The row that a run is about, as a link to its own page in the admin."""

from __future__ import annotations

from dataclasses import dataclass

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.urls import NoReverseMatch, reverse

from django_durable.models import WorkflowRun


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSubject:
    """``address`` is empty if the model has no page in this admin."""

    text: str
    address: str


def subject_of(run: WorkflowRun) -> ShownSubject | None:
    """Read from the run alone: the row may be gone, and its model too."""
    if run.subject_type is None or run.subject_id is None:
        return None
    return ShownSubject(text=f"{run.subject_type} {run.subject_id}", address=_address(run.subject_type, run.subject_id))


def _address(label: str, key: str) -> str:
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError):
        return ""
    if not admin.site.is_registered(model):
        return ""
    try:
        return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[quote(key)])
    except NoReverseMatch:
        return ""
