"""Schedules: made, changed, paused and triggered by staff. Every act is a public verb."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminSplitDateTime
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from django_durable.admin import times
from django_durable.admin.badges import badge
from django_durable.client import ScheduleHandle, reading, schedule_rows, scheduling
from django_durable.definitions.registry import registry
from django_durable.definitions.schedule import OVERLAPS
from django_durable.definitions.schedule import Schedule as Spec
from django_durable.exceptions import DurableError
from django_durable.models import Schedule
from django_durable.store import database, schedules

WHEN = ("cron", "every", "time_zone", "overlap", "catch_up", "jitter", "start_at", "end_at", "max_runs")


class ScheduleForm(forms.ModelForm):
    """A schedule as people write it; what could not work is said beside the form, and nothing is saved."""

    name = forms.CharField(max_length=schedule_rows.NAME_LIMIT)
    workflow = forms.ChoiceField()
    arguments = forms.JSONField(required=False, initial=dict, help_text='By name: {"days": 30}.')
    cron = forms.CharField(required=False, help_text="Such as 30 3 * * MON-FRI. Leave empty for an interval.")
    every = forms.DurationField(required=False, help_text="Such as 01:00:00, or 2 00:00:00 for two days.")
    time_zone = forms.CharField(required=False, help_text="Such as Europe/Berlin. Empty: the project's.")
    overlap = forms.ChoiceField(choices=[(one, one.replace("_", " ")) for one in OVERLAPS])
    catch_up = forms.DurationField(help_text="Missed ticks are made up for unless they are older.")
    jitter = forms.DurationField(help_text="Each start is late by a part of this.")
    start_at = forms.SplitDateTimeField(required=False, widget=AdminSplitDateTime())
    end_at = forms.SplitDateTimeField(required=False, widget=AdminSplitDateTime())
    max_runs = forms.IntegerField(required=False, min_value=1)

    class Meta:
        model = Schedule
        fields = ("name", "note")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = {one.name for one in registry.workflows()}
        if self.instance.pk:
            spec = schedules.spec_of(self.instance)
            names.add(self.instance.definition)
            self.fields["name"].disabled = True
            self.initial.update({name: getattr(spec, name) for name in WHEN})
            self.initial["cron"] = spec.expression
            self.initial["workflow"] = self.instance.definition
            self.initial["arguments"] = reading.plain(self.instance.input)
        else:
            defaults = Spec(cron="* * * * *")
            self.initial.update({name: getattr(defaults, name) for name in ("overlap", "catch_up", "jitter")})
        self.fields["workflow"].choices = [(name, name) for name in sorted(names)]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        """Try the whole of it: the schedule, the workflow and its arguments."""
        values: dict[str, Any] = super().clean() or self.cleaned_data
        if self.errors:
            return values
        try:
            spec = Spec(**{name: values[name] for name in WHEN if values[name] not in (None, "")})
            definition = registry.workflow(values["workflow"])
            values["row"] = schedule_rows.new_row(values["name"], spec, definition, (), values["arguments"] or {})
        except (DurableError, TypeError) as error:
            raise forms.ValidationError(str(error)) from error
        return values


class ScheduleAdmin(admin.ModelAdmin):
    form = ScheduleForm
    list_display = ("name", "definition", "when", "state", "next_start", "last_start", "started", "skipped")
    list_filter = ("paused", "declared")
    search_fields = ("name", "definition")
    actions = ("pause", "resume", "trigger")
    fieldsets = (
        (None, {"fields": ("name", "workflow", "arguments", "note")}),
        ("When", {"fields": WHEN}),
    )

    class Media:
        css = {"all": ["django_durable/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.using(database.alias())

    def has_change_permission(self, request: HttpRequest, obj: Schedule | None = None) -> bool:
        """What code declares is changed in the code; it can be looked at, paused and triggered here."""
        return super().has_change_permission(request, obj) and not (obj is not None and obj.declared)

    def save_model(self, request: HttpRequest, obj: Schedule, form: Any, change: bool) -> None:
        row: Schedule = form.cleaned_data["row"]
        if change:
            scheduling.change(row)
            schedules.rows().filter(pk=row.pk).update(note=obj.note)
        else:
            row.note = obj.note
            schedules.save(row)

    @admin.action(description="Pause the selected schedules", permissions=["change"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        self._act(request, queryset, lambda one: one.pause(f"by {request.user}"), "paused")

    @admin.action(description="Resume the selected schedules", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        self._act(request, queryset, lambda one: one.resume(), "resumed")

    @admin.action(description="Start a run of the selected schedules now", permissions=["change"])
    def trigger(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        self._act(request, queryset, lambda one: one.trigger(), "triggered")

    def _act(
        self, request: HttpRequest, queryset: QuerySet[Schedule], act: Callable[[ScheduleHandle], None], done: str
    ) -> None:
        rows = list(queryset)
        for row in rows:
            act(ScheduleHandle(row.name))
            self.log_change(request, row, done)
        self.message_user(request, f"{len(rows)} {done}.", messages.SUCCESS)

    @admin.display(description="when")
    def when(self, row: Schedule) -> str:
        return str(schedules.spec_of(row))

    @admin.display(description="state")
    def state(self, row: Schedule) -> SafeString:
        if row.paused:
            return badge("paused")
        return badge("running" if row.next_at is not None else "completed")

    @admin.display(description="next start", ordering="next_at", empty_value="never")
    def next_start(self, row: Schedule) -> SafeString | None:
        return times.moment(row.next_at) if row.next_at is not None else None

    @admin.display(description="last tick", ordering="last_tick_at", empty_value="never")
    def last_start(self, row: Schedule) -> SafeString | None:
        return times.moment(row.last_tick_at) if row.last_tick_at is not None else None
