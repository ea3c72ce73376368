"""Workflows in another database than the default one, and transactions on another than theirs."""

from __future__ import annotations

from functools import partial

import pytest
from django.core.management import call_command
from django.db import connections, router, transaction
from django.test import override_settings

from django_durable import Schedule, WorkflowNotFound, client, durable
from django_durable.checks.aliases import check_router, check_tenants
from django_durable.exceptions import ForeignTransaction
from django_durable.models import InboxMessage, WorkflowRun
from django_durable.models import Schedule as ScheduleRow
from django_durable.store import database
from example_project.shop.models import Order
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.running import DEADLINE, wait_for

ROUTER = "django_durable.routers.DurableRouter"


def test_workflows_live_in_the_database_that_the_setting_names(other, configure, settings, make_worker):
    settings.DATABASE_ROUTERS = [ROUTER]
    configure(DATABASE=other)
    call_command("migrate", database=other, verbosity=0)
    make_worker()
    handle = durable.start_workflow(workflows.effects.using(workflow_id="there"), "k", 1)
    assert handle.result(timeout=DEADLINE) == ["k/0"]
    assert Entry.objects.using("default").count() == 1  # the project's rows are where they were
    assert WorkflowRun.objects.get().workflow_id == "there"  # the router knows where
    assert WorkflowRun.objects.using("default").count() == 0
    assert check_router(None) == []


def test_the_router_has_an_opinion_about_our_models_only(other, configure, settings):
    settings.DATABASE_ROUTERS = [ROUTER]
    configure(DATABASE=other)
    assert router.db_for_read(WorkflowRun) == router.db_for_write(WorkflowRun) == other
    assert router.db_for_write(Order) == "default"
    assert [alias for alias in ("default", other) if router.allow_migrate_model(alias, WorkflowRun)] == [other]
    assert router.allow_migrate_model("default", Order)


def test_models_that_are_looked_for_elsewhere_are_found_by_a_check(other, configure, settings):
    assert check_router(None) == []  # ours is the default, and nothing says otherwise
    configure(DATABASE=other)
    [message] = check_router(None)
    assert message.id == "durable.W011"
    assert ROUTER in str(message.hint)
    settings.DATABASE_ROUTERS = [ROUTER]
    assert check_router(None) == []


def test_our_app_in_the_apps_of_tenants_is_found_by_a_check():
    assert check_tenants(None) == []
    with override_settings(TENANT_APPS=["shop", "django_durable"]):
        [message] = check_tenants(None)
    assert message.id == "durable.E012"


CALLS = {
    "start": lambda: durable.start_workflow(workflows.echo, 1),
    "starts": lambda: durable.start_workflows([workflows.echo.call(1)]),
    "signal": lambda: durable.signal_workflow("there", "approved", "x"),
    "cancel": lambda: durable.cancel_workflow("there"),
    "signals": lambda: durable.signal_workflows(WorkflowRun.objects.all(), workflows.approved("x")),
    "cancels": lambda: durable.cancel_workflows(WorkflowRun.objects.all()),
    "signal with start": lambda: durable.signal_with_start(
        workflows.approved("x"), workflows.approval.using(workflow_id="there")
    ),
    "update": lambda: durable.get_workflow("there").update("anything"),
    "terminate": lambda: durable.terminate_workflow("there"),
    "terminates": lambda: durable.terminate_workflows(WorkflowRun.objects.all()),
    "pause": lambda: durable.pause_workflow("there"),
    "pauses": lambda: durable.pause_workflows(WorkflowRun.objects.all()),
    "resume": lambda: durable.resume_workflow("there"),
    "pause of all": lambda: durable.pause_definition(workflows.approval),
    "reset": lambda: durable.get_workflow("there").reset(to_event=1),
    "retry": lambda: durable.get_workflow("there").retry_failed(),
    "schedule": lambda: durable.create_schedule("daily", Schedule(cron="0 4 * * *"), workflows.approval),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_would_not_be_part_of_the_callers_transaction_is_refused(other, call):
    durable.start_workflow(workflows.approval.using(workflow_id="there"))
    with transaction.atomic(using=other), pytest.raises(ForeignTransaction, match=r"on 'other'.*on_commit"):
        CALLS[call]()
    assert [run.status for run in WorkflowRun.objects.all()] == ["running"]
    assert not InboxMessage.objects.exists()
    assert not ScheduleRow.objects.exists()
    assert client.paused_definitions() == {}


def test_the_setting_allows_it_or_warns(other, configure, caplog):
    configure(OTHER_TRANSACTIONS="warn")
    with transaction.atomic(using=other):
        durable.start_workflow(workflows.echo, 1)
    assert "was called inside a transaction on 'other'" in caplog.text
    caplog.clear()
    configure(OTHER_TRANSACTIONS="allow")
    with transaction.atomic(using=other):
        durable.start_workflow(workflows.echo, 1)
    assert caplog.text == ""
    assert WorkflowRun.objects.count() == 2


def test_after_the_others_commit_and_inside_our_own_transaction_it_is_welcome(other):
    with transaction.atomic(using=other):
        transaction.on_commit(partial(durable.start_workflow, workflows.echo, 1), using=other)
        assert not WorkflowRun.objects.exists()
        with transaction.atomic():
            durable.start_workflow(workflows.echo, 2)
    assert WorkflowRun.objects.count() == 2
    with pytest.raises(WorkflowNotFound):
        durable.get_workflow("there")


def test_a_transaction_of_a_test_case_is_not_the_callers(other):
    block = transaction.atomic(using=other)
    block._from_testcase = True  # as Django's TestCase marks its own
    with block:
        durable.start_workflow(workflows.echo, 1)
        with transaction.atomic(using=other), pytest.raises(ForeignTransaction):
            durable.start_workflow(workflows.echo, 1)
    with transaction.atomic(using=other), transaction.atomic():
        with database.adopting():
            durable.start_workflow(workflows.echo, 1)
            assert connections[other].in_atomic_block


def test_an_activity_is_a_caller_like_any_other(other, worker):
    handle = durable.start_workflow(workflows.catch, "flows.starts_inside", [other])
    wait_for(lambda: handle.status().is_closed, "it to be refused")
    assert handle.result(timeout=DEADLINE)["type"] == "ForeignTransaction"
