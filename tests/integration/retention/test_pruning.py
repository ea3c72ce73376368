"""What may go goes as a whole, and nothing that is needed goes."""

from __future__ import annotations

import pytest

from django_durable import UpdateRejected, WorkflowFailed, WorkflowNotFound, durable
from django_durable.client import pruning
from django_durable.client.pruning import Rules
from django_durable.contrib.tasks.interface import TaskResultDoesNotExist
from django_durable.models import HistoryEvent, PrunedRun, WorkflowRun
from django_durable.store import clock, remains
from django_durable.store import pruning as store
from django_durable.store.pruning import Place
from tests.flows import showing, tasks, workflows
from tests.integration.retention.conftest import DAY, assert_no_orphans, left, prune, shorten

OFFLOADING = {"BACKEND": "django_durable.offloading.Storage", "OPTIONS": {"storage": "default"}}


def test_without_a_retention_nothing_ever_goes(env):
    env.start(workflows.echo, 1)
    env.advance(9_999 * DAY)
    assert prune() == 0
    assert WorkflowRun.objects.count() == 1


def test_each_end_has_its_time(env, keep):
    keep(completed=10 * DAY, failed=30 * DAY)
    env.start(workflows.echo.using(workflow_id="done"), 1)
    env.start(workflows.fail.using(workflow_id="failed"), "x")
    stopped = env.start(workflows.never_ends.using(workflow_id="stopped"))
    env.start(workflows.never_ends.using(workflow_id="open"))
    env.run_until_idle()
    stopped.terminate()
    env.advance(9 * DAY)
    assert prune() == 0
    env.advance(2 * DAY)
    assert prune() == 1
    with pytest.raises(WorkflowNotFound):
        durable.get_workflow("done")
    env.advance(30 * DAY)
    assert prune() == 1
    assert set(WorkflowRun.objects.values_list("workflow_id", flat=True)) == {"stopped", "open"}
    assert_no_orphans()


def test_nothing_of_a_run_is_left(env, keep):
    keep(completed=DAY)
    handle = env.start(showing.shown.using(attributes={"customer": 7}), 2)
    env.run_until_idle()
    handle.signal("go")
    handle.result(timeout=60)
    cart = env.start(workflows.cart, 1)
    assert cart.update("add", "mug") == 1
    cart.signal("check_out")
    env.run_until_idle()
    cart.cancel()
    env.run_until_idle()
    WorkflowRun.objects.filter(pk=cart.run_id).update(status="completed")
    env.advance(5 * DAY)
    assert prune() == 2
    assert left() == {}


def test_the_name_in_the_settings_wins_over_the_declaration(env, configure):
    configure(RETENTION={"completed": DAY, "WORKFLOWS": {"flows.echo": {"completed": 30 * DAY}}})
    env.start(workflows.echo, 1)
    env.start(workflows.chain, 1)
    env.start(showing.kept_briefly)
    env.advance(2 * DAY)
    assert prune() == 2
    assert [run.name for run in WorkflowRun.objects.all()] == ["flows.echo"]
    configure(RETENTION=None)
    env.start(showing.kept_briefly)
    env.advance(DAY)
    assert prune() == 1


def test_a_workflow_whose_code_this_process_does_not_have_stays(env, keep):
    keep(completed=DAY)
    handle = env.start(workflows.echo, 1)
    env.advance(5 * DAY)
    WorkflowRun.objects.update(name="another.project")
    assert prune() == 0
    assert prune(before=clock.read()) == 1
    assert handle.run_id


def test_a_chain_goes_as_a_whole_once_its_last_run_may_go(env, keep):
    keep(completed=3 * DAY, failed=DAY)
    env.start(workflows.continues_then_fails.using(workflow_id="chain"), 2)
    env.advance(2 * DAY)
    with pytest.raises(WorkflowFailed):
        durable.get_workflow("chain").result(timeout=1)
    failed = WorkflowRun.objects.get(status="failed")
    durable.get_workflow("chain").retry_failed()  # the chain is open again, and its end will be another one
    env.advance(2 * DAY)
    latest = WorkflowRun.objects.filter(chain_id=failed.chain_id).latest("created_at")
    WorkflowRun.objects.filter(pk=latest.pk).update(status="completed")
    assert prune() == 0  # two failed runs are old enough, but they are not the end
    env.advance(2 * DAY)
    assert prune() == 1
    assert left() == {}


def test_children_go_with_their_parent_and_never_before(env, keep):
    keep(completed=DAY)
    parent = env.start(workflows.parent_of_echoes, 3)
    waiting = env.start(showing.waits_after_child)
    env.advance(5 * DAY)
    assert WorkflowRun.objects.count() == 6
    assert prune() == 4
    assert {run.name for run in WorkflowRun.objects.all()} == {"flows.waits_after_child", "flows.echo"}
    assert_no_orphans()
    waiting.signal("go")
    env.advance(2 * DAY)
    assert prune() == 2
    assert left() == {}
    assert parent.run_id


@pytest.mark.parametrize("why", ["kept", "open"])
def test_a_family_stays_together_while_one_of_it_must_stay(env, configure, why):
    kept = {"flows.adds": {"completed": None}} if why == "kept" else {}
    configure(RETENTION={"completed": DAY, "WORKFLOWS": kept})
    if why == "kept":
        env.start(workflows.parent_of_sum, 2)
    else:
        env.start(showing.leaves_child_behind)
    env.advance(5 * DAY)
    count = WorkflowRun.objects.count()
    assert count > 1
    assert prune() == 0
    if why == "kept":
        configure(RETENTION={"completed": DAY, "WORKFLOWS": {"flows.parent_of_sum": {}}})
    else:
        durable.terminate_workflow("left-behind")
        env.advance(DAY)
    assert prune() == count
    assert left() == {}


def test_a_family_that_is_too_large_goes_from_its_root_on(env, keep, monkeypatch):
    monkeypatch.setattr(pruning, "FAMILY", 3)
    keep(completed=DAY)
    env.start(workflows.parent_of_echoes, 5)
    env.advance(2 * DAY)
    families = [family for found in pruning.expired("flows.parent_of_echoes", _now()) for family in found]
    assert [len(family) for family in families] == [3]
    assert families[0][0].last.name == "flows.parent_of_echoes"
    assert len(pruning.delete(families)) == 3
    assert prune() == 3
    assert left() == {}


def test_a_reply_that_its_caller_may_still_come_for_keeps_its_chain(env, keep):
    keep(cancelled=DAY / 24)
    cart = env.start(workflows.cart, 1)
    with pytest.raises(UpdateRejected):
        cart.update("add", "mug", 11)
    cart.update("add", "mug")
    cart.cancel()
    env.advance(DAY / 12)
    assert cart.status().status == "cancelled"
    assert prune() == 0
    env.advance(2 * DAY)
    assert prune() == 1
    assert left() == {}


def test_results_of_djangos_tasks_go_as_well(env, configure):
    configure(RETENTION={"WORKFLOWS": {"durable.task": {"completed": DAY}}})
    result = tasks.add.using(backend="durable").enqueue(1, 2)
    env.run_until_idle()
    result.refresh()
    assert result.return_value == 3
    env.advance(2 * DAY)
    assert prune() == 1
    with pytest.raises(TaskResultDoesNotExist):
        result.refresh()


def test_long_histories_go_in_slices_from_their_end(env, keep, monkeypatch):
    monkeypatch.setattr(remains, "EVENTS", 4)
    keep(completed=DAY)
    env.start(workflows.chain, 4)
    env.start(workflows.echo, 1)
    env.advance(2 * DAY)
    total = HistoryEvent.objects.count()
    for name in pruning.names():
        for found in pruning.expired(name, _now()):
            pruning.delete(found)
    assert not WorkflowRun.objects.exists()
    assert HistoryEvent.objects.count() == total
    slices = 0
    while remains.clear(remains.next_slices()):
        slices += 1
        for row in PrunedRun.objects.all():  # what is left is the beginning, without a gap
            sequences = (
                HistoryEvent.objects.filter(run_id=row.pk).order_by("sequence").values_list("sequence", flat=True)
            )
            assert list(sequences) == list(range(1, row.events + 1))
    assert slices >= 3
    assert left() == {}


def test_a_search_goes_on_where_it_stopped_and_begins_anew_at_the_end(env, keep, monkeypatch):
    monkeypatch.setattr(pruning, "BATCH", 2)
    keep(completed=DAY)
    for number in range(5):
        env.start(workflows.echo.using(workflow_id=f"e{number}"), number)
        env.run_until_idle()
    env.advance(2 * DAY)
    marks: dict[tuple[str, str], Place] = {}
    first = next(pruning.expired("flows.echo", _now(), marks=marks))
    second = next(pruning.expired("flows.echo", _now(), marks=marks))
    rest = [family for found in pruning.expired("flows.echo", _now(), marks=marks) for family in found]
    assert marks == {}
    ids = [family[0].chain_id for family in (*first, *second, *rest)]
    assert len(ids) == len(set(ids)) == 5
    assert len(rest) == 1


def test_what_has_changed_since_it_was_found_stays(env, keep):
    keep(failed=DAY)
    env.start(workflows.fail.using(workflow_id="again"), "x")
    env.advance(2 * DAY)
    (family,) = [one for found in pruning.expired("flows.fail", _now()) for one in found]
    durable.get_workflow("again").retry_failed()
    assert pruning.delete([family]) == []
    env.run_until_idle()
    assert pruning.delete([family]) == []  # it has ended again, but another run is its end now
    assert WorkflowRun.objects.count() == 2


def test_a_run_that_is_gone_cannot_go_on(env, keep):
    keep(failed=DAY)
    handle = env.start(workflows.fail, "x")
    env.advance(2 * DAY)
    assert prune() == 1
    with pytest.raises(WorkflowNotFound):
        handle.retry_failed()
    with pytest.raises(WorkflowNotFound):
        handle.status()
    assert durable.retry_failed(WorkflowRun.objects.all()).done == 0


def test_a_workflow_id_may_be_used_anew_afterwards(env, keep):
    keep(completed=DAY)
    once = workflows.echo.using(workflow_id="once", on_reuse="reject")
    env.start(once, 1)
    env.advance(2 * DAY)
    assert prune() == 1
    assert env.start(once, 2).result(timeout=60) == 2


def _now() -> Rules:
    return Rules(now=clock.read())


def test_a_chain_that_goes_on_loses_its_middle_and_keeps_its_first_run(env, keep):
    keep(continued_as_new=2.5 * DAY)
    handle = env.start(workflows.daily.using(workflow_id="entity", attributes={"customer": 7}), 0)
    env.advance(10 * DAY)
    runs = [run.pk for run in WorkflowRun.objects.for_workflow("entity")]
    assert len(runs) == 11
    assert shorten() == 6
    assert [run.pk for run in WorkflowRun.objects.for_workflow("entity")] == [*runs[:4], handle.run_id]
    assert_no_orphans()
    assert shorten() == 0
    handle.signal("stop")
    env.advance(DAY)
    assert handle.result(timeout=60) >= 10  # through the handle of the first run
    assert durable.get_workflow_status("entity").attributes == {"customer": 7}
    keep(completed=DAY)
    env.advance(2 * DAY)
    assert prune() == 1
    assert left() == {}


def test_children_of_runs_that_are_gone_go_by_themselves(env, keep):
    keep(continued_as_new=2.5 * DAY, completed=2.5 * DAY)
    env.start(workflows.daily.using(workflow_id="entity"), 0, child=True)
    env.advance(10 * DAY)
    echoes = WorkflowRun.objects.filter(name="flows.echo")
    assert echoes.count() >= 10
    assert prune() == 0  # their parents are there
    gone = shorten()
    assert prune() == gone > 5
    parents = set(echoes.values_list("parent_run_id", flat=True))
    assert parents <= set(WorkflowRun.objects.values_list("pk", flat=True))
    assert_no_orphans()


@pytest.mark.parametrize("why", ["no policy", "for ever", "offloading"])
def test_the_middle_of_a_chain_stays(env, configure, keep, why):
    keep(completed=DAY, **{"continued_as_new": None} if why == "for ever" else {})
    if why == "offloading":
        keep(continued_as_new=DAY)
        configure(PAYLOADS={"CODECS": [OFFLOADING]})
    env.start(workflows.daily, 0)
    env.advance(5 * DAY)
    count = WorkflowRun.objects.count()
    assert shorten() == 0
    assert WorkflowRun.objects.count() == count


def test_what_is_no_middle_of_a_chain_is_not_taken_out_of_it(env):
    env.start(workflows.daily.using(workflow_id="entity"), 0)
    env.advance(5 * DAY)
    runs = list(WorkflowRun.objects.for_workflow("entity"))
    assert store.shorten([runs[0].pk, runs[-1].pk]) == []  # the open one, and the first
    assert store.shorten([runs[1].pk]) == [runs[1].pk]
