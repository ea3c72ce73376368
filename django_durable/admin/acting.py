"""Acting on runs from the admin: a page that asks for a reason, and then the act. By POST only, and logged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

from django_durable.admin.acts import ACTS, Act
from django_durable.client import WorkflowHandle
from django_durable.exceptions import DurableError
from django_durable.models import WorkflowRun

PERMISSION = "durable.act_on_workflowrun"
CONFIRMED = "confirmed"
SHOWN = 10  # of the selected runs, on the page that asks
TEMPLATE = "admin/durable/workflowrun/act.html"


class ActingAdmin(admin.ModelAdmin):
    """Adds the acts to a read-only admin of runs: for what is selected, and as buttons on the page of a run."""

    def has_act_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm(PERMISSION)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.act_view)
        return [path("<path:object_id>/act/<slug:name>/", view, name="durable_workflowrun_act"), *super().get_urls()]

    def buttons_of(self, request: HttpRequest, run: WorkflowRun) -> list[dict[str, str]]:
        """The acts that this user may do to the run, with the addresses of their pages."""
        if not self.has_act_permission(request, run):
            return []
        return [
            {"title": act.title, "address": self._address("act", run.pk, name)}
            for name, act in ACTS.items()
            if act.applies_to(run.status)
        ]

    def _address(self, view: str, *args: Any) -> str:
        return reverse(f"admin:durable_workflowrun_{view}", args=args, current_app=self.admin_site.name)

    # One run

    def act_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        act = ACTS.get(name)
        run = self.get_object(request, object_id)
        if act is None or run is None:
            raise Http404("There is no such run, or nothing of that name can be done to it.")
        if not (self.has_view_permission(request, run) and self.has_act_permission(request, run)):
            raise PermissionDenied
        form = act.form(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            return self._act(request, act, run, self._given(request, form))
        return self._ask(request, act, form, runs=[run], more=0, hidden=[])

    def _act(self, request: HttpRequest, act: Act, run: WorkflowRun, given: dict[str, Any]) -> HttpResponse:
        handle: WorkflowHandle[Any] | None = WorkflowHandle(run.workflow_id, run.pk)
        try:
            handle = act.one(WorkflowHandle(run.workflow_id, run.pk), given)
        except DurableError as error:
            self.message_user(request, str(error), messages.ERROR)
            return self._to_page_of(run.pk)
        if handle is None:
            self.message_user(
                request, f"Workflow {run.workflow_id} is not to be {act.done} any more.", messages.WARNING
            )
            return self._to_page_of(run.pk)
        self.log_change(request, run, _words(act, given))
        self.message_user(request, f"Workflow {run.workflow_id} was {act.done}.", messages.SUCCESS)
        return self._to_page_of(handle.run_id)

    def _to_page_of(self, run_id: Any) -> HttpResponse:
        return HttpResponseRedirect(self._address("change", run_id))

    # Many

    def act_on_selected(self, name: str, request: HttpRequest, queryset: QuerySet[WorkflowRun]) -> HttpResponse | None:
        act = ACTS[name]
        form = act.form(request.POST if CONFIRMED in request.POST else None)
        if CONFIRMED in request.POST and form.is_valid():
            self._act_on_many(request, act, queryset, self._given(request, form))
            return None
        shown = list(queryset[: SHOWN + 1])
        hidden = [
            ("action", name),
            ("select_across", request.POST.get("select_across", "0")),
            ("index", request.POST.get("index", "0")),
            (CONFIRMED, "yes"),
            *((ACTION_CHECKBOX_NAME, one) for one in request.POST.getlist(ACTION_CHECKBOX_NAME)),
        ]
        return self._ask(request, act, form, runs=shown[:SHOWN], more=queryset.count() - SHOWN, hidden=hidden)

    def _act_on_many(
        self, request: HttpRequest, act: Act, queryset: QuerySet[WorkflowRun], given: dict[str, Any]
    ) -> None:
        assert act.many is not None
        selected = queryset.count()
        fitting = list(queryset.filter(status__in=sorted(act.statuses)).values_list("pk", flat=True))
        runs = WorkflowRun.objects.using(queryset.db).filter(pk__in=fitting)
        result = act.many(runs, given["reason"])
        LogEntry.objects.log_actions(
            user_id=request.user.pk or 0, queryset=runs, action_flag=CHANGE, change_message=_words(act, given)
        )
        skipped = selected - result.done
        left = f" {skipped} left as they were." if skipped else ""
        self.message_user(
            request, f"{result.done} {act.done}.{left}", messages.SUCCESS if result.done else messages.WARNING
        )

    # Asking

    def _given(self, request: HttpRequest, form: Any) -> dict[str, Any]:
        given: dict[str, Any] = dict(form.cleaned_data)
        given["reason"] = given["reason"] or f"By {request.user.get_username()} in the admin."
        return given

    def _ask(
        self,
        request: HttpRequest,
        act: Act,
        form: Any,
        *,
        runs: list[WorkflowRun],
        more: int,
        hidden: list[tuple[str, str]],
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"{act.title}: are you sure?",
            "opts": self.opts,
            "act": act,
            "form": form,
            "runs": runs,
            "more": max(0, more),
            "hidden": hidden,
            "media": self.media,
        }
        return TemplateResponse(request, TEMPLATE, context)


def _words(act: Act, given: dict[str, Any]) -> str:
    return f"{act.done.capitalize()}: {given['reason']}"


def actions() -> list[Callable[..., Any]]:
    """The acts as actions of the list."""
    return [_action(name, act) for name, act in ACTS.items() if act.many is not None]


def _action(name: str, act: Act) -> Callable[..., Any]:
    @admin.action(description=f"{act.title} selected runs", permissions=["act"])
    def action(model_admin: ActingAdmin, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return model_admin.act_on_selected(name, request, queryset)

    action.__name__ = name
    return action
