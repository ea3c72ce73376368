"""``ctx.poll``: a call that is made again and again, of which history keeps the last."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_durable import DefinitionError, durable
from django_durable.models import ActivityTask
from django_durable.testing import environment
from tests.flows import lasting
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for


@pytest.fixture(params=[0, 512], ids=["no cache", "cache"])
def cache(request, configure):
    configure(INSTANCE_CACHE_SIZE=request.param)


def polled(*args, **kwargs):
    handle = durable.start_workflow(lasting.polls, "k", *args, **kwargs)
    result = handle.result(timeout=DEADLINE)
    assert_invariants(handle)
    assert len(handle.history()) == 4  # start, call, outcome, end: however often it was looked
    return result


def test_it_looks_until_what_it_finds_will_do(worker, cache):
    assert polled() == 5
    assert Entry.objects.filter(kind="look").count() == 5


@pytest.mark.parametrize("workers", [1, 3])
def test_looks_may_happen_anywhere(make_worker, workers, cache):
    for _ in range(workers):
        make_worker(queues=("default", "elsewhere"))
    assert polled(queue="elsewhere") == 5
    assert Entry.objects.filter(kind="look").count() == 5


def test_each_look_has_its_own_retries(worker):
    assert polled(name="flows.look_and_fail") >= 5
    assert Entry.objects.filter(kind="look").count() == 6


def test_enough_looks_are_a_timeout(worker, cache):
    failure = polled("never", attempts=3)
    assert (failure["timeout"], failure["type"], failure["attempts"]) == ("poll", "TimeoutError", 3)
    assert Entry.objects.filter(kind="look").count() == 3


def test_looks_in_vain_end_when_their_time_is_over(worker, cache):
    assert polled("never", timeout=2.0)["timeout"] == "poll"
    assert Entry.objects.filter(kind="look").count() > 1


def test_a_look_that_hangs_ends_when_the_time_is_over(worker):
    handle = durable.start_workflow(lasting.polls, "k", timeout=0.3, name="flows.never_begun")
    wait_for(lambda: handle.status().is_closed, "the end")
    assert handle.status().error_type == "TypeError"  # it takes no arguments
    handle = durable.start_workflow(lasting.polls, "k", timeout=0.3, queue="nobody serves this")
    assert handle.result(timeout=DEADLINE)["timeout"] == "poll"


def test_looks_that_somebody_outside_answers_are_counted(worker):
    lasting.tokens.clear()
    handle = durable.start_workflow(lasting.polls, "k", attempts=2, name="flows.looks_outside")
    for number in (1, 2):
        wait_for(lambda: f"k/{number}" in lasting.tokens, "the look")  # noqa: B023
        durable.complete_activity(lasting.tokens[f"k/{number}"], number)
    failure = handle.result(timeout=DEADLINE)
    assert (failure["timeout"], failure["attempts"]) == ("poll", 2)


def test_a_predicate_that_raises_fails_the_call(worker):
    assert polled("broken")["type"] == "LookupError"


def test_between_looks_nothing_runs_and_it_goes_on_with_another_worker(make_worker):
    worker = make_worker()
    handle = durable.start_workflow(lasting.polls, "k", every=1.0, attempts=7)
    wait_for(lambda: ActivityTask.objects.filter(worker=None), "the pause")
    worker.stop()
    assert worker.join(DEADLINE)
    make_worker()
    assert handle.result(timeout=DEADLINE) == 5
    assert Entry.objects.filter(kind="look").count() == 5


def test_time_skips_over_the_pauses():
    with environment() as env:
        before = env.now()
        assert env.start(lasting.polls, "k", every=3600.0).result(timeout=5) == 5
        assert env.now() - before == timedelta(hours=4)


@pytest.mark.parametrize(
    "wrong",
    [{"until": 5}, {"attempts": 0}, {"every": timedelta(0)}, {"timeout": -1}],
    ids=["until", "attempts", "every", "timeout"],
)
def test_what_could_not_work_is_refused(wrong):
    with pytest.raises(DefinitionError):
        lasting.look.polling(**{"until": bool, "every": 1, **wrong})
