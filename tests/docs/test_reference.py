"""Tables of names say neither more nor less than the code."""

from __future__ import annotations

import ast
import dataclasses
import re
from typing import Any

import pytest
from django.apps import apps
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand
from django.dispatch import Signal

from django_durable import conf, instrumentation
from django_durable.api import Durable
from django_durable.client import HistoryEntry, ScheduleHandle, ScheduleStatus, WorkflowHandle, WorkflowStatus
from django_durable.contrib.api import scope
from django_durable.contrib.api.application import api
from django_durable.contrib.api.options import ApiOptions
from django_durable.contrib.tasks import options as task_options
from django_durable.definitions import activity, queue, workflow
from django_durable.definitions.current import CurrentActivity
from django_durable.definitions.retry import Retry
from django_durable.definitions.schedule import OVERLAPS, Schedule
from django_durable.engine.batches import BatchResult, Limits
from django_durable.engine.context import Context
from django_durable.engine.info import Info
from django_durable.exceptions import ActivityError
from django_durable.history import blocking, events
from django_durable.history.status import Status
from django_durable.querysets import RunQuerySet
from tests.docs import pages

SOURCE = pages.ROOT / "django_durable"


def names(page: str, *, under: str, column: int = 0) -> set[str]:
    """The code words in one column of a table: several in a cell are told apart by commas, calls are cut."""
    cells = [row[column] for row in pages.rows(pages.DOCS / page, under=under)]
    return {name for cell in cells for name in re.findall(r"`?(?:ctx\.|--)?(\w+)(?:\([^)]*\))?[^,|]*(?:,|$)", cell)}


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def field_names(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def test_every_setting_is_listed_with_its_default():
    table = {row[0]: row for row in pages.rows(pages.DOCS / "settings.md", under="# Settings")}
    assert set(table) == conf.NAMES
    for name, default in dataclasses.asdict(conf.Settings()).items():
        expected = list(default) if isinstance(default, tuple) else default
        assert ast.literal_eval(table[name][2]) == expected, name


def test_every_check_is_listed():
    places = [*(SOURCE / "checks").glob("*.py"), *(SOURCE / "contrib").rglob("*.py")]
    source = "".join(path.read_text(encoding="utf-8") for path in places)
    listed = {row[0] for row in pages.rows(pages.DOCS / "checks.md", under="# Checks")}
    assert listed == set(re.findall(r'"(durable\.[EW]\d+)"', source))


def test_every_option_of_an_activity_is_listed():
    assert names("activities.md", under="## Options") == activity.KNOWN


def test_every_option_of_a_queue_is_listed():
    assert names("queues.md", under="## Limits") == queue.KNOWN


def test_every_option_of_a_task_is_listed():
    assert names("tasks.md", under="## Options") == set(task_options.NAMES)


def test_every_field_of_a_retry_policy_is_listed():
    assert names("activities.md", under="## Retries") == field_names(Retry)


def test_every_attribute_of_an_activity_error_is_listed():
    given = set(vars(ActivityError(""))) | {"cause"}
    assert names("activities.md", under="## Failures") == given


def test_everything_that_an_activity_knows_of_itself_is_listed():
    assert names("activities.md", under="## Who am I?") == public(CurrentActivity) - {
        "is_cancelled",
        "is_stopping",
        "on_heartbeat",
        "on_token",
    }


def test_every_option_of_a_workflow_is_listed():
    assert names("workflows.md", under="## Options") == (workflow.KNOWN - {"workflow_id"}) | {
        "name",
        "version",
        "default",
        "on_error",
        "api",
        "retention",
    }


def test_everything_on_the_context_is_listed():
    assert names("workflows.md", under="## The context") == public(Context)


def test_everything_that_a_run_knows_of_itself_is_listed():
    assert names("workflows.md", under="### ctx.info") == public(Info)


def test_every_method_of_a_handle_is_listed():
    methods = public(WorkflowHandle)
    twins = {name for name in methods if name.startswith("a") and name[1:] in methods}
    assert names("services.md", under="## get_workflow") == methods - twins


def test_every_verb_is_listed():
    verbs = {name for name in public(Durable) if not name.startswith("a") and f"a{name}" in public(Durable)}
    cells = [row[0] for row in pages.rows(pages.DOCS / "services.md", under="## All verbs")]
    listed = {name for cell in cells for name in re.findall(r"(\w+)`?[,\]]", cell)}
    assert listed == verbs


def test_every_table_is_listed():
    listed = names("architecture.md", under="## Tables")
    assert listed == {model.__name__ for model in apps.get_app_config("durable").get_models()}


def test_every_field_of_a_status_is_listed():
    assert names("services.md", under="## get_workflow_status") == field_names(WorkflowStatus) | {"is_closed"}


def test_history_and_blocks_are_described():
    text = (pages.DOCS / "services.md").read_text(encoding="utf-8")
    said = set(re.findall(r"`(\w+)`", text))
    assert field_names(HistoryEntry) <= said
    assert set(blocking.Block.__struct_fields__) <= said


def test_every_filter_of_runs_is_listed():
    assert names("services.md", under="## Many runs") == {
        name for name in vars(RunQuerySet) if not name.startswith("_")
    }


def test_every_event_is_listed():
    assert names("concepts.md", under="## Runs, events, histories") == set(events.TYPES)


def test_every_event_has_its_kind():
    kinds = {row[0]: row[1] for row in pages.rows(pages.DOCS / "concepts.md", under="## Runs, events, histories")}
    assert {name for name, kind in kinds.items() if kind == "input"} == {
        name for name, kind in events.TYPES.items() if kind.is_input
    }


def test_every_status_is_listed():
    assert names("concepts.md", under="## Statuses") == set(Status)


def test_every_option_of_the_command_is_listed():
    command: Any = load_command_class(get_commands()["durable_worker"], "durable_worker")
    plain, full = (one.create_parser("manage.py", "durable_worker") for one in (BaseCommand(), command))
    given = {action.dest for action in full._actions} - {action.dest for action in plain._actions}
    listed = {row[0].split()[0] for row in pages.rows(pages.DOCS / "worker.md", under="# The worker")}
    assert listed == {"--" + name.replace("_", "-") for name in given}


def test_the_signals_that_are_sent_are_listed():
    defined = {name for name, value in vars(instrumentation).items() if isinstance(value, Signal)}
    sources = [path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")]
    sent = {name for source in sources for name in re.findall(r"send\(\s*instrumentation\.(\w+)", source)}
    sent |= {name for source in sources for name in re.findall(r"partial\(instrumentation\.send, \w+\.(\w+)", source)}
    assert names("worker.md", under="## Logs and instrumentation") == sent & defined


def test_everything_about_schedules_is_listed():
    methods = public(ScheduleHandle)
    twins = {name for name in methods if name.startswith("a") and name[1:] in methods}
    assert names("schedules.md", under="## When") == field_names(Schedule)
    assert names("schedules.md", under="## Overlap") == set(OVERLAPS)
    assert names("schedules.md", under="## Looking and acting") == methods - twins
    assert names("schedules.md", under="`status()` has:") == field_names(ScheduleStatus)


@pytest.mark.parametrize(
    ("command", "page", "under"), [("durable_replay", "deploys.md", "## The gate")], ids=["durable_replay"]
)
def test_every_option_of_the_gate_is_listed(command, page, under):
    loaded: Any = load_command_class(get_commands()[command], command)
    plain, full = (one.create_parser("manage.py", command)._actions for one in (BaseCommand(), loaded))
    known = {action.dest for action in plain}
    given = {(*action.option_strings, "FILE")[0] for action in full if action.dest not in known}
    listed = {row[0].split()[0].strip("`") for row in pages.rows(pages.DOCS / page, under=under)}
    assert listed == given


def test_every_option_of_an_export_is_named():
    loaded: Any = load_command_class(get_commands()["durable_export"], "durable_export")
    plain, full = (one.create_parser("manage.py", "durable_export") for one in (BaseCommand(), loaded))
    given = {action.dest for action in full._actions} - {action.dest for action in plain._actions}
    text = (pages.DOCS / "deploys.md").read_text(encoding="utf-8")
    assert all(f"`--{name.replace('_', '-')}" in text for name in given)


def test_everything_that_a_batch_gives_is_listed():
    listed = names("batches.md", under="## The result") - {"iterating", "len", "index"}
    assert listed == public(BatchResult)
    assert names("batches.md", under="## Limits") == field_names(Limits)


def test_every_option_of_the_api_is_listed_with_its_default():
    table = {row[0]: row for row in pages.rows(pages.DOCS / "http-api.md", under="## Options")}
    assert {name: ast.literal_eval(row[2]) for name, row in table.items()} == dataclasses.asdict(ApiOptions())


def test_every_permission_of_the_api_is_listed_with_its_default():
    table = pages.rows(pages.DOCS / "http-api.md", under="## Who may come in")
    assert {row[0]: row[1] == "yes" for row in table} == scope.ACTIONS


def test_every_address_of_the_api_is_listed():
    rows = pages.rows(pages.DOCS / "http-api.md", under="## What there is")
    listed = {tuple(row[0].partition("?")[0].split(" ")) for row in rows}
    paths = api.get_openapi_schema(path_prefix="")["paths"]
    there = {
        (method.upper(), re.sub(r"{(?:workflow_)?(\w+)}", r"<\1>", path[1:]))
        for path in paths
        for method in paths[path]
    }
    assert listed == there


def test_every_problem_of_the_api_is_listed_with_its_status():
    source = "".join(path.read_text(encoding="utf-8") for path in (SOURCE / "contrib" / "api").rglob("*.py"))
    raised = re.findall(r'(?:Problem|_Kind)\(\s*(\d+),\s*"([a-z-]+)"', source)
    listed = {(row[1], row[0]) for row in pages.rows(pages.DOCS / "http-api.md", under="## Errors")}
    assert listed == set(raised)
