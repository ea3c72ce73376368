"""Queues: what waits in each, their limits, and a pause. Every act is a public verb."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString

from django_durable import client
from django_durable.admin import times
from django_durable.admin.badges import badge
from django_durable.definitions.queue import QueueOptions, check_name
from django_durable.definitions.rate import Rate
from django_durable.exceptions import DefinitionError
from django_durable.models import Queue
from django_durable.store import backlog, database, queues

PLAIN = ("counts", "concurrency", "concurrency_per_worker", "concurrency_per_key", "fair")
RATES = (
    ("rate", ("rate", "rate_period", "rate_burst")),
    ("rate_per_key", ("key_rate", "key_rate_period", "key_rate_burst")),
)
NOTHING = backlog.QueueBacklog(name="")


class QueueForm(forms.ModelForm):
    """Limits as people write them; what could not work is said beside the form, and nothing is saved."""

    weights = forms.JSONField(
        required=False, initial=dict, help_text='Turns of keys that get more than one: {"acme": 5}.'
    )

    class Meta:
        model = Queue
        fields = ("name", *PLAIN, *RATES[0][1], *RATES[1][1])

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.fields["name"].disabled = True
            self.initial["weights"] = dict(queues.options_of(self.instance).weights)

    def clean(self) -> dict[str, Any]:
        """Try the whole of it: the name and the limits."""
        values: dict[str, Any] = super().clean() or self.cleaned_data
        if self.errors:
            return values
        try:
            check_name(values["name"])
            changes = {name: values[name] for name in PLAIN} | {"weights": values["weights"] or {}}
            changes |= {name: _rate(*(values[field] for field in parts)) for name, parts in RATES}
            QueueOptions(**changes)
        except DefinitionError as error:
            raise forms.ValidationError(str(error)) from error
        values["changes"] = changes
        return values


def _rate(count: int | None, period: timedelta | None, burst: int | None) -> Rate | None:
    if count is None and period is None and burst is None:
        return None
    if count is None or period is None:
        raise DefinitionError("A rate needs both: how many, and in which period.")
    return Rate(count, per=period, burst=burst)


class QueueAdmin(admin.ModelAdmin):
    form = QueueForm
    change_list_template = "admin/durable/queue/change_list.html"
    list_display = ("name", "state", "limits", "depth", "oldest", "running", "workers", "reason")
    list_filter = ("paused", "counts", "fair")
    search_fields = ("name",)
    actions = ("pause", "resume")
    fieldsets = (
        (None, {"fields": ("name", "counts")}),
        ("At a time", {"fields": ("concurrency", "concurrency_per_worker", "concurrency_per_key")}),
        ("Rates", {"fields": (*RATES[0][1], *RATES[1][1])}),
        ("Turns", {"fields": ("fair", "weights")}),
    )

    class Media:
        css = {"all": ["django_durable/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.using(database.alias())

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The queues that are set up, and below them all others in which something is or that somebody serves."""
        known = {one.name: one for one in backlog.read()}
        set_up = set(queues.rows().values_list("name", flat=True))
        others = [one for name, one in known.items() if name not in set_up]
        answer: HttpResponse = super().changelist_view(request, {**(extra_context or {}), "others": others})
        shown = getattr(answer, "context_data", None) or {}
        for row in shown["cl"].result_list if "cl" in shown else ():
            row.backlog = known.get(row.pk, NOTHING)
        return answer

    def save_model(self, request: HttpRequest, obj: Queue, form: Any, change: bool) -> None:
        client.set_queue(obj.name, form.cleaned_data["changes"])

    @admin.action(description="Pause the selected queues", permissions=["change"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Queue]) -> None:
        reason = f"By {request.user.get_username()} in the admin."
        self._act(request, queryset, lambda name: client.pause_queue(name, reason), "paused")

    @admin.action(description="Resume the selected queues", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Queue]) -> None:
        self._act(request, queryset, client.resume_queue, "resumed")

    def _act(self, request: HttpRequest, queryset: QuerySet[Queue], act: Callable[[str], bool], done: str) -> None:
        changed = [row for row in queryset if act(row.name)]
        for row in changed:
            self.log_change(request, row, done)
        self.message_user(request, f"{len(changed)} {done}.", messages.SUCCESS if changed else messages.WARNING)

    @admin.display(description="state", ordering="paused")
    def state(self, row: Queue) -> SafeString:
        return badge("paused" if row.paused else "running")

    @admin.display(description="limits", empty_value="none")
    def limits(self, row: Queue) -> str | None:
        return describe(queues.options_of(row)) or None

    @admin.display(description="waiting")
    def depth(self, row: Any) -> int:
        waiting: int = row.backlog.depth
        return waiting

    @admin.display(description="oldest", empty_value="–")
    def oldest(self, row: Any) -> str | None:
        seconds = row.backlog.oldest_seconds
        return None if seconds is None else times.duration(timedelta(seconds=seconds))

    @admin.display(description="running")
    def running(self, row: Any) -> str:
        return f"{row.backlog.runs_owned} workflows, {row.backlog.activities_running} activities"

    @admin.display(description="workers")
    def workers(self, row: Any) -> int:
        count: int = row.backlog.workers
        return count


def describe(options: QueueOptions) -> str:
    """Limits in a line."""
    of_each = {
        "at a time": options.concurrency,
        "in a worker": options.concurrency_per_worker,
        "of a key": options.concurrency_per_key,
    }
    said = [f"{count} {words}" for words, count in of_each.items() if count is not None]
    rates = {"": options.rate, " of a key": options.rate_per_key}
    said += [f"{one.count} in {times.duration(one.per)}{words}" for words, one in rates.items() if one is not None]
    counted = [f"{options.counts}: {', '.join(said)}"] if said else []
    return "; ".join([*counted, *(["keys take turns"] if options.fair else [])])
