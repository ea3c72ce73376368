"""Outcomes that come from outside: by token, and by a POST to a callback's URL."""

from __future__ import annotations

import json
import time
from functools import partial

import pytest
from asgiref.sync import async_to_sync
from django.core import signing
from django.db import transaction
from django.test import RequestFactory
from django.urls import resolve

from django_durable import AlreadyCompleted, InvalidToken, WorkflowClosed, WorkflowNotFound, durable
from django_durable.client import WorkflowHandle
from django_durable.models import ActivityTask, Dispatch, WorkflowRun
from tests.flows import lasting, workflows
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_all_invariants, assert_invariants
from tests.integration.worker.running import DEADLINE, in_thread, wait_for


@pytest.fixture(params=[0, 512], ids=["no cache", "cache"])
def cache(request, configure):
    configure(INSTANCE_CACHE_SIZE=request.param)


@pytest.fixture(autouse=True)
def no_tokens():
    lasting.tokens.clear()


def open_activity(name="asks_outside", key="k", **limits):
    handle = durable.start_workflow(lasting.within, f"flows.{name}", [key], limits)
    wait_for(lambda: ActivityTask.objects.filter(external=True), "the activity to be left open")
    return handle, lasting.tokens[key]


def open_callback(*args):
    handle = durable.start_workflow(lasting.waits_for_answer, "k", *args)
    wait_for(lambda: "k/url" in lasting.tokens, "the callback to be told")
    return handle, lasting.tokens["k"], lasting.tokens["k/url"]


# Activities


@pytest.mark.parametrize("name", ["asks_outside", "asks_outside_async"])
def test_an_activity_may_be_completed_later(worker, cache, name):
    handle, token = open_activity(name)
    wait_for(lambda: worker._slots.taken() == 0, "its slot to be free")
    wait_for(lambda: Dispatch.objects.filter(owner=None), "its run to be released")
    durable.complete_activity(token, 42)
    assert handle.result(timeout=DEADLINE) == 42
    assert_invariants(handle)


def test_a_second_completion_is_refused(worker):
    handle, token = open_activity()
    durable.complete_activity(token, 1)
    with pytest.raises(AlreadyCompleted):
        durable.complete_activity(token, 2)
    assert handle.result(timeout=DEADLINE) == 1
    with pytest.raises(AlreadyCompleted):
        durable.complete_activity(token, 3)


def test_of_many_completions_at_once_one_counts(worker):
    handle, token = open_activity()
    refused: list[int] = []

    def complete(value: int) -> None:
        try:
            durable.complete_activity(token, value)
        except AlreadyCompleted:
            refused.append(value)

    for thread in [in_thread(partial(complete, value)) for value in range(6)]:
        thread.join(DEADLINE)
    [value] = set(range(6)) - set(refused)
    assert handle.result(timeout=DEADLINE) == value
    assert_invariants(handle)


def test_it_may_be_failed_for_good(worker):
    handle, token = open_activity()
    durable.fail_activity(token, "no money", type="Refused")
    assert handle.result(timeout=DEADLINE) == {"timeout": None, "type": "Refused", "attempts": 1, "cause": None}
    handle, token = open_activity()
    durable.fail_activity(token, ValueError("wrong"))
    assert handle.result(timeout=DEADLINE)["type"] == "ValueError"


def test_a_completion_is_part_of_its_callers_transaction(worker):
    handle, token = open_activity()
    with transaction.atomic():
        durable.complete_activity(token, 1)
        transaction.set_rollback(True)
    assert ActivityTask.objects.filter(external=True).exists()
    with transaction.atomic():
        durable.complete_activity(token, 2)
        Entry.objects.create(kind="completed", key="k")
    assert handle.result(timeout=DEADLINE) == 2


def test_its_time_limits_run_on(worker):
    handle, _ = open_activity(start_to_close=0.4)
    assert handle.result(timeout=DEADLINE)["timeout"] == "start_to_close"
    handle, _ = open_activity(schedule_to_close=0.4)
    assert handle.result(timeout=DEADLINE)["timeout"] == "schedule_to_close"


def test_after_a_time_limit_it_is_tried_again_as_its_policy_says(worker):
    handle = durable.start_workflow(lasting.within, "flows.asks_twice", ["k"], {"start_to_close": 0.4})
    wait_for(lambda: "k/2" in lasting.tokens, "the second attempt")
    durable.complete_activity(lasting.tokens["k/2"], "second")
    assert handle.result(timeout=DEADLINE) == "second"
    assert_invariants(handle)


def test_heartbeats_from_outside_keep_it_alive(worker):
    handle, token = open_activity(heartbeat=0.6)
    for step in range(8):
        durable.heartbeat_activity(token, {"step": step})
        time.sleep(0.15)
    assert json.loads(ActivityTask.objects.get().heartbeat_details or "")[1] == {"step": 7}
    assert handle.result(timeout=DEADLINE)["timeout"] == "heartbeat"


def test_it_may_be_completed_before_it_has_ended(worker):
    handle = durable.start_workflow(lasting.within, "flows.told_too_early", ["k"])
    wait_for(lambda: "k" in lasting.tokens, "the token")
    durable.complete_activity(lasting.tokens["k"], "early")
    assert handle.result(timeout=DEADLINE) == "early"
    wait_for(lambda: worker._slots.taken() == 0, "the activity to learn it")
    assert_invariants(handle)


def test_an_atomic_activity_has_no_token(worker):
    handle = durable.start_workflow(lasting.within, "flows.atomic_token", [])
    assert handle.result(timeout=DEADLINE)["type"] == "DurableError"


def test_a_token_that_nobody_signed_is_refused(worker):
    for wrong in ("", "nonsense", signing.dumps(["a", "b", None])):
        with pytest.raises(InvalidToken):
            durable.complete_activity(wrong)
    with pytest.raises(WorkflowNotFound):
        durable.heartbeat_activity("nonsense")


def test_a_token_survives_a_change_of_the_secret_key(worker, settings):
    handle, token = open_activity()
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "another one"
    durable.complete_activity(token, 5)
    assert handle.result(timeout=DEADLINE) == 5


def test_a_workflow_that_gives_it_up_makes_its_token_useless(worker):
    handle = durable.start_workflow(lasting.gives_up, "flows.asks_outside", "k")
    wait_for(lambda: ActivityTask.objects.filter(external=True), "the activity to be left open")
    handle.signal("enough")
    assert handle.result(timeout=DEADLINE) == "given up"
    with pytest.raises(WorkflowClosed):
        durable.complete_activity(lasting.tokens["k"], 1)


@pytest.mark.server
def test_the_engine_does_not_wait_for_a_transaction_that_completes_an_activity(worker):
    handle = durable.start_workflow(lasting.gives_up, "flows.asks_outside", "k")
    wait_for(lambda: ActivityTask.objects.filter(external=True), "the activity to be left open")
    results: list[int] = []

    def another() -> None:
        durable.signal_workflow(handle.workflow_id, "enough")
        results.append(durable.start_workflow(workflows.echo, 7).result(timeout=DEADLINE))

    with transaction.atomic():
        durable.complete_activity(lasting.tokens["k"], 1)
        in_thread(another).join(DEADLINE)
        assert results == [7]
        assert not handle.status().is_closed
    assert handle.result(timeout=DEADLINE) in ("given up", "done")  # whichever the engine has seen first
    assert_invariants(handle)


async def _complete_async(token):
    await durable.aheartbeat_activity(token)
    await durable.acomplete_activity(token, 3)


def test_the_verbs_have_async_twins(worker):
    handle, token = open_activity()
    async_to_sync(_complete_async)(token)
    assert handle.result(timeout=DEADLINE) == 3


# Callbacks


def post(url, data, method="POST"):
    """What the view answers. Middleware is the project's, and not wanted here."""
    body = data if isinstance(data, str) else json.dumps(data)
    request = RequestFactory().generic(method, url, body, content_type="application/json")
    match = resolve(url)
    return match.func(request, *match.args, **match.kwargs)


def test_a_callback_is_fulfilled_by_its_token(worker, cache):
    handle, token, _ = open_callback()
    durable.complete_activity(token, {"a": 1})
    assert handle.result(timeout=DEADLINE) == {"a": 1}
    assert [one.type for one in handle.history()].count("CallbackOpened") == 1
    assert_invariants(handle)


def test_a_callback_is_fulfilled_by_one_post_to_its_url(worker, cache):
    handle, _, url = open_callback()
    answer = post(url, {"a": 2})
    assert (answer.status_code, json.loads(answer.content)) == (200, {"status": "accepted"})
    assert post(url, {"a": 3}).status_code == 409
    assert handle.result(timeout=DEADLINE) == {"a": 2}
    assert post(url, {"a": 3}).status_code == 409
    assert_invariants(handle)


def test_the_url_is_absolute_if_the_project_says_where_it_is(worker, configure):
    configure(CALLBACK_URL="https://example.com/")
    _, token, url = open_callback()
    assert url == f"https://example.com/durable/callbacks/{token}/"


def test_what_does_not_fit_is_answered_and_leaves_the_callback_open(worker, configure):
    configure(CALLBACK_MAX_BYTES=100)
    handle, token, url = open_callback()
    assert post(url, "", method="GET").status_code == 405
    assert post(url.replace(token, "x" + token), {}).status_code == 404
    assert post(url, "{").status_code == 400
    assert post(url, "[NaN]").status_code == 400
    assert post(url, '"' + "x" * 200 + '"').status_code == 413
    assert handle.status().status == "running"
    assert post(url, {"a": 1}).status_code == 200
    assert handle.result(timeout=DEADLINE) == {"a": 1}


def test_the_url_expires(worker, configure):
    configure(CALLBACK_SECONDS=0.001)
    _, _, url = open_callback()
    time.sleep(1.1)
    assert post(url, {"a": 1}).status_code == 410


def test_a_callback_times_out(worker, cache):
    handle, _, _ = open_callback(0.5)
    assert handle.result(timeout=DEADLINE)["timeout"] == "timeout"
    handle, _, _ = open_callback(3600, 0.5)
    assert handle.result(timeout=DEADLINE)["timeout"] == "heartbeat"
    assert not ActivityTask.objects.exists()


def test_a_value_of_another_type_fails_where_it_is_awaited(worker):
    handle, token, _ = open_callback()
    durable.complete_activity(token, ["no dict"])
    wait_for(lambda: handle.status().is_closed, "the failure")
    assert handle.status().error_type == "PayloadError"


# From run to run


def types(handle):
    return [one.type for one in handle.history()]


def last_run(handle):
    return durable.get_workflow(handle.workflow_id)


def assert_chain(handle, length):
    """Every run of the chain is as it must be, and there are that many."""
    runs = WorkflowRun.objects.filter(chain_id=handle.run_id)
    assert runs.count() == length
    assert_all_invariants([WorkflowHandle(run.workflow_id, run.pk) for run in runs])


def ask_the_chain(rounds, *args, go_on):
    """A workflow that has handed out one URL in its first run and has continued as new ``go_on`` times since."""
    handle = durable.start_workflow(lasting.asks_the_chain, "k", rounds, *args)
    wait_for(lambda: "k/url" in lasting.tokens, "the callback to be told")
    for count in range(go_on):
        handle.signal("next")
        wait_for(lambda: WorkflowRun.objects.count() == count + 2, "the next run")  # noqa: B023
    return handle


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_callback_with_a_key_can_be_fulfilled_after_its_run_has_continued_as_new(worker, cache, rounds):
    handle = ask_the_chain(rounds, go_on=rounds)
    wait_for(lambda: Dispatch.objects.filter(owner=None), "the last run to wait")
    task = ActivityTask.objects.get(external=True)
    assert task.run_id == last_run(handle).run_id
    assert post(lasting.tokens["k/url"], {"a": 1}).status_code == 200
    assert handle.result(timeout=DEADLINE) == {"a": 1}
    assert post(lasting.tokens["k/url"], {"a": 2}).status_code == 409
    assert_chain(handle, rounds + 1)


def test_an_answer_that_came_before_the_run_continued_goes_to_the_next_one(worker, cache):
    handle = ask_the_chain(2, go_on=0)
    durable.complete_activity(lasting.tokens["k"], {"a": 1})
    wait_for(lambda: types(handle).count("ActivityCompleted") == 2, "the answer")
    for count in range(2):
        handle.signal("next")
        wait_for(lambda: WorkflowRun.objects.count() == count + 2, "the next run")  # noqa: B023
    assert handle.result(timeout=DEADLINE) == {"a": 1}
    with pytest.raises(AlreadyCompleted):
        durable.complete_activity(lasting.tokens["k"], {"a": 2})
    assert_chain(handle, 3)


def test_an_answer_that_comes_while_nobody_has_the_next_run_waits_for_it(make_worker, cache):
    first = make_worker()
    handle = ask_the_chain(1, go_on=0)
    first.stop()
    assert first.join(DEADLINE)
    handle.signal("next")
    durable.complete_activity(lasting.tokens["k"], {"a": 1})
    with pytest.raises(AlreadyCompleted):
        durable.complete_activity(lasting.tokens["k"], {"a": 2})
    make_worker()
    assert handle.result(timeout=DEADLINE) == {"a": 1}
    assert_chain(handle, 2)


def test_many_answers_that_meet_continuing_runs_all_arrive_once(make_worker, cache):
    for _ in range(2):
        make_worker()
    handles = {key: durable.start_workflow(lasting.asks_the_chain, key, 3) for key in "abcdef"}
    wait_for(lambda: all(f"{key}/url" in lasting.tokens for key in handles), "the callbacks to be told")
    for handle in handles.values():
        for _ in range(3):
            handle.signal("next")
    for number, key in enumerate(handles):
        durable.complete_activity(lasting.tokens[key], {key: number})
    for number, (key, handle) in enumerate(handles.items()):
        assert handle.result(timeout=DEADLINE) == {key: number}
        runs = WorkflowRun.objects.filter(chain_id=handle.run_id)
        types = [one.type for run in runs for one in WorkflowHandle(run.workflow_id, run.pk).history()]
        assert types.count("ActivityCompleted") == 2, "the activity's and the callback's"
    assert not ActivityTask.objects.exists()


def test_the_next_run_has_the_same_token_and_url(worker, cache):
    handle = ask_the_chain(2, False, go_on=2)
    assert handle.result(timeout=DEADLINE) == [lasting.tokens["k"], lasting.tokens["k/url"]]
    assert not ActivityTask.objects.exists()
    assert_chain(handle, 3)


def test_its_timeout_counts_from_the_first_run(worker):
    handle = ask_the_chain(1, True, 3.0, go_on=0)
    before = ActivityTask.objects.get(external=True).deadline
    handle.signal("next")
    wait_for(lambda: WorkflowRun.objects.count() == 2, "the next run")
    wait_for(lambda: Dispatch.objects.filter(owner=None), "the next run to wait")
    assert ActivityTask.objects.get(external=True).deadline == before
    assert handle.result(timeout=DEADLINE)["timeout"] == "timeout"


def test_the_next_try_of_a_failed_run_has_it_too(worker, cache):
    handle = durable.start_workflow(lasting.asks_and_fails, "k")
    wait_for(lambda: WorkflowRun.objects.count() == 2, "the next try")
    assert post(lasting.tokens["k/url"], 7).status_code == 200
    assert handle.result(timeout=DEADLINE) == 7


def test_what_has_no_key_ends_with_its_run_and_says_so(worker, cache):
    handle = durable.start_workflow(lasting.forgets_what_it_asked, "k")
    wait_for(lambda: {"k", "k/callback/url"} <= lasting.tokens.keys(), "both to be told")
    handle.signal("next")
    wait_for(lambda: WorkflowRun.objects.count() == 2, "the next run")
    wait_for(lambda: not ActivityTask.objects.exists(), "what the first run has waited for to be gone")
    for token in (lasting.tokens["k"], lasting.tokens["k/callback"]):
        with pytest.raises(WorkflowClosed, match="The run that waited for this token has ended"):
            durable.complete_activity(token, 1)
    assert post(lasting.tokens["k/callback/url"], 1).status_code == 410
    handle.signal("end")
    assert handle.result(timeout=DEADLINE) == "ended"


@pytest.mark.parametrize("answered", [False, True])
def test_a_run_that_is_reset_to_its_start_has_what_the_run_before_left_to_it(worker, cache, answered):
    handle = ask_the_chain(2, go_on=1)
    second = last_run(handle)
    wait_for(lambda: Dispatch.objects.filter(owner=None), "the run to wait")
    if answered:
        durable.complete_activity(lasting.tokens["k"], {"a": 1})
        wait_for(lambda: "ActivityCompleted" in types(second), "the answer")
    reset = second.reset(to_event=1)
    if not answered:
        durable.complete_activity(lasting.tokens["k"], {"a": 1})
    reset.signal("next")
    assert handle.result(timeout=DEADLINE) == {"a": 1}


def test_a_closed_run_that_is_reset_can_be_answered_once_more(worker, cache):
    handle = ask_the_chain(1, go_on=1)
    second = last_run(handle)
    second.terminate()
    reset = second.reset(to_event=1)
    wait_for(lambda: ActivityTask.objects.filter(external=True), "the callback to be open again")
    durable.complete_activity(lasting.tokens["k"], {"a": 1})
    assert reset.result(timeout=DEADLINE) == {"a": 1}
