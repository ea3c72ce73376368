"""Schedules: every tick starts one run, whoever looks; what happens when runs overlap, or nobody was there."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from django_durable import Schedule, ScheduleAlreadyExists, ScheduleNotFound, durable
from django_durable.client import ScheduleHandle, scheduling
from django_durable.definitions.schedule import OVERLAPS, DeclaredSchedule
from django_durable.models import Schedule as Row
from django_durable.models import WorkflowRun
from django_durable.store import clock
from django_durable.testing import environment
from django_durable.worker import ticking
from tests.flows import workflows
from tests.integration.worker.running import DEADLINE, MakeWorker, in_thread, wait_for

NAMES = {"flows.echo", "flows.never_ends", "flows.approval"}
HOUR = timedelta(hours=1)


def missed(name: str, ticks: int) -> None:
    """Make the last ``ticks`` ticks of an hourly schedule due, as if nobody had looked."""
    row = Row.objects.get(pk=name)
    assert row.tick_at is not None
    due = row.tick_at - ticks * HOUR
    Row.objects.filter(pk=name).update(tick_at=due, next_at=due)


def hourly(definition: Any = workflows.echo, **fields: Any) -> ScheduleHandle:
    """A schedule called so, of ``echo`` with an argument or of a workflow without any."""
    schedule = Schedule(**{"every": HOUR, "catch_up": timedelta(days=1), **fields})
    return durable.create_schedule("hourly", schedule, definition, *([1] if definition.name == "flows.echo" else []))


def open_runs() -> list[WorkflowRun]:
    return list(WorkflowRun.objects.open())


def test_a_tick_starts_its_run_and_the_next_tick_follows(worker: Any) -> None:
    handle = durable.create_schedule("often", Schedule(every=timedelta(seconds=1)), workflows.echo, "x")

    wait_for(lambda: handle.status().started >= 2, "two ticks")

    runs = WorkflowRun.objects.filter(schedule="often")
    assert [run.workflow_id for run in runs.order_by("workflow_id")][:2] == sorted(run.workflow_id for run in runs)[:2]
    assert all(run.workflow_id.startswith("often/") for run in runs)
    wait_for(lambda: runs.filter(status="completed").count() >= 2, "their runs to complete")


def test_ten_lookers_start_one_run_a_tick() -> None:
    hourly(overlap="allow_all")
    missed("hourly", 20)
    barrier = threading.Barrier(10)

    def look() -> None:
        barrier.wait()
        ticking.tick(NAMES)

    threads = [in_thread(look) for _ in range(10)]
    for thread in threads:
        thread.join(DEADLINE)

    ticks = Counter(WorkflowRun.objects.filter(schedule="hourly").values_list("workflow_id", flat=True))
    assert len(ticks) == 20
    assert set(ticks.values()) == {1}
    assert Row.objects.get().started == 20


def test_ten_workers_start_one_run_a_tick(make_worker: MakeWorker) -> None:
    for _ in range(10):
        make_worker(concurrency=1)
    handle = durable.create_schedule(
        "often", Schedule(every=timedelta(seconds=1), overlap="allow_all"), workflows.echo, "x"
    )

    wait_for(lambda: handle.status().started >= 3, "three ticks")

    handle.pause()
    started = handle.status().started
    assert WorkflowRun.objects.filter(schedule="often").count() == started
    assert WorkflowRun.objects.filter(schedule="often").values("workflow_id").distinct().count() == started


def test_skip_lets_a_tick_pass_while_a_run_is_open() -> None:
    handle = hourly(definition=workflows.never_ends)
    missed("hourly", 3)

    ticking.tick(NAMES)

    assert (handle.status().started, handle.status().skipped) == (1, 2)


def test_buffer_one_keeps_one_tick_for_later() -> None:
    handle = hourly(definition=workflows.never_ends, overlap="buffer_one")
    missed("hourly", 3)

    ticking.tick(NAMES)
    assert (handle.status().started, handle.status().waiting, handle.status().skipped) == (1, 1, 1)

    end_open_runs()
    look_now("hourly")
    assert (handle.status().started, handle.status().waiting) == (2, 0)


def test_buffer_all_keeps_every_tick_in_order() -> None:
    handle = hourly(definition=workflows.never_ends, overlap="buffer_all")
    missed("hourly", 3)
    for left in (2, 1, 0):
        look_now("hourly")
        assert handle.status().waiting == left
        assert len(open_runs()) == 1
        end_open_runs()

    ids = list(WorkflowRun.objects.order_by("created_at").values_list("workflow_id", flat=True))
    assert ids == sorted(ids)
    assert len(ids) == 3


def test_cancel_other_asks_the_open_run_to_end_and_waits_for_it(worker: Any) -> None:
    handle = hourly(definition=workflows.approval, overlap="cancel_other")
    missed("hourly", 1)
    wait_for(lambda: handle.status().started == 1, "the first tick")
    first = open_runs()[0]

    missed("hourly", 1)
    Row.objects.update(tick_at=clock.read() - timedelta(seconds=1), next_at=clock.read())

    wait_for(lambda: handle.status().started == 2, "the second tick")
    first.refresh_from_db()
    assert first.status == "cancelled"
    assert len(open_runs()) == 1


def test_terminate_other_ends_the_open_run_at_once() -> None:
    handle = hourly(definition=workflows.never_ends, overlap="terminate_other")
    missed("hourly", 2)

    ticking.tick(NAMES)

    statuses = list(WorkflowRun.objects.order_by("workflow_id").values_list("status", flat=True))
    assert statuses == ["terminated", "running"]
    assert handle.status().started == 2


def test_allow_all_starts_beside_what_is_open() -> None:
    hourly(definition=workflows.never_ends, overlap="allow_all")
    missed("hourly", 3)

    ticking.tick(NAMES)

    assert len(open_runs()) == 3


def test_every_policy_has_been_tried_here() -> None:
    assert set(OVERLAPS) == {"skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"}


def test_ticks_older_than_the_window_are_not_made_up_for() -> None:
    handle = hourly(overlap="allow_all", catch_up=2 * HOUR)
    missed("hourly", 100)

    ticking.tick(NAMES)

    assert handle.status().started == 2
    assert next_at(handle) > clock.read()


def test_a_paused_schedule_starts_nothing_and_makes_up_for_nothing() -> None:
    handle = hourly(overlap="allow_all")
    handle.pause("until the migration is through")
    Row.objects.update(tick_at=clock.read() - 5 * HOUR)

    ticking.tick(NAMES)
    assert (handle.status().started, handle.status().note) == (0, "until the migration is through")
    assert handle.status().next_at is None

    handle.resume()
    ticking.tick(NAMES)
    assert handle.status().started == 0
    assert next_at(handle) > clock.read()


def test_a_trigger_starts_a_run_now_even_while_paused(worker: Any) -> None:
    handle = hourly(paused=True)

    handle.trigger()

    wait_for(lambda: WorkflowRun.objects.filter(status="completed").count() == 1, "the triggered run")
    assert handle.status().started == 1


def test_a_backfill_starts_what_had_no_run() -> None:
    handle = hourly(overlap="allow_all")
    missed("hourly", 2)
    ticking.tick(NAMES)
    first = handle.upcoming(1)[0]

    wanted = handle.backfill(first - 5 * HOUR, first - HOUR, overlap="allow_all")
    ticking.tick(NAMES)

    assert wanted == 5
    assert WorkflowRun.objects.count() == 5
    assert (handle.status().started, handle.status().skipped) == (5, 2)


def test_ticks_that_wait_for_each_others_runs_follow_at_once() -> None:
    with environment() as env:
        handle = hourly(overlap="buffer_all")
        first = handle.upcoming(1)[0]
        assert handle.backfill(first - 9 * HOUR, first - HOUR) == 9

        env.run_until_idle()

        assert handle.status().started == 9
        assert WorkflowRun.objects.filter(status="completed").count() == 9


def test_the_longer_a_run_takes_the_longer_are_the_pauses_between_looks() -> None:
    pauses = []
    with environment() as env:
        handle = hourly(workflows.never_ends, overlap="buffer_all")
        missed("hourly", 3)
        for age in (0, 2, 3600):
            WorkflowRun.objects.update(created_at=env.now() - timedelta(seconds=age))
            Row.objects.update(next_at=env.now())
            ticking.tick(NAMES)
            pauses.append((next_at(handle) - env.now()).total_seconds())

    assert pauses == [0.05, 0.5, 1.0]


def test_a_limited_schedule_ends_after_its_runs() -> None:
    handle = hourly(overlap="allow_all", max_runs=2)
    missed("hourly", 5)

    ticking.tick(NAMES)

    assert (handle.status().started, handle.status().runs_left, handle.status().next_at) == (2, 0, None)


def test_jitter_delays_the_start_and_not_the_tick() -> None:
    schedule = Schedule(every=HOUR, jitter=timedelta(minutes=30))
    handle = durable.create_schedule("late", schedule, workflows.echo, 1)

    status = handle.status()
    [tick] = handle.upcoming(1)
    assert status.next_at == tick + schedule.lateness("late", tick)


def test_an_update_changes_when_and_keeps_the_rest() -> None:
    handle = hourly(overlap="buffer_all")

    handle.update(cron="15 4 * * *", time_zone="UTC")

    status = handle.status()
    assert (status.schedule.cron, status.schedule.every, status.schedule.overlap) == ("15 4 * * *", None, "buffer_all")
    assert next_at(handle).strftime("%H:%M") == "04:15"


def test_a_schedule_that_cannot_start_its_run_says_why_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = hourly()
    missed("hourly", 1)
    Row.objects.update(input='["json",{"no_such_parameter":1}]')

    ticking.tick(NAMES)

    assert "no_such_parameter" in handle.status().error
    assert next_at(handle) > clock.read()


def test_names_are_unique_and_unknown_ones_are_named() -> None:
    hourly()
    with pytest.raises(ScheduleAlreadyExists, match="hourly"):
        hourly()
    durable.get_schedule("hourly").delete()
    with pytest.raises(ScheduleNotFound, match="hourly"):
        durable.get_schedule("hourly")


def test_arguments_that_do_not_fit_are_refused_before_anything_is_written() -> None:
    with pytest.raises(TypeError, match=r"flows\.echo"):
        durable.create_schedule("wrong", Schedule(every=HOUR), workflows.echo)  # type: ignore[call-arg]
    assert not Row.objects.exists()


def test_a_schedule_of_a_workflow_that_a_worker_does_not_have_is_left_to_others() -> None:
    handle = hourly()
    missed("hourly", 1)

    assert ticking.tick({"flows.other"}) == 0
    assert ticking.tick(NAMES) == 1
    assert handle.status().started == 1


def test_what_code_declares_is_written_once_and_kept_up_to_date() -> None:
    first = DeclaredSchedule(name="declared", schedule=Schedule(every=HOUR), workflow="flows.echo", args=(1,))
    later = DeclaredSchedule(name="declared", schedule=Schedule(every=2 * HOUR), workflow="flows.echo", args=(1,))

    scheduling.declare(first)
    durable.get_schedule("declared").pause("by staff")
    scheduling.declare(first)
    scheduling.declare(later)

    status = durable.get_schedule("declared").status()
    assert (status.schedule.every, status.paused, status.note) == (2 * HOUR, True, "by staff")


def test_the_transaction_that_dies_in_a_tick_leaves_the_tick_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = hourly()
    missed("hourly", 1)

    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(ticking, "_plan", die)
        with pytest.raises(KeyboardInterrupt):
            ticking.tick(NAMES)
    assert (WorkflowRun.objects.count(), handle.status().started) == (0, 0)

    ticking.tick(NAMES)
    assert (WorkflowRun.objects.count(), handle.status().started) == (1, 1)


def next_at(handle: ScheduleHandle) -> datetime:
    moment = handle.status().next_at
    assert moment is not None
    return moment


def test_time_that_a_test_skips_brings_the_ticks_on_the_way() -> None:
    with environment() as env:
        handle = hourly(overlap="allow_all")
        env.advance(timedelta(hours=5))

        assert handle.status().started == 5
        assert WorkflowRun.objects.filter(status="completed").count() == 5


def end_open_runs() -> None:
    for run in open_runs():
        durable.terminate_workflow(run.workflow_id)


def look_now(name: str) -> None:
    Row.objects.filter(pk=name).update(next_at=clock.read())
    ticking.tick(NAMES)
