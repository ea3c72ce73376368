"""Runs inside a test: no worker, no thread, no waiting, in a transaction or without one."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import IntegrityError, connection, transaction
from django.test import TestCase, TransactionTestCase
from django.utils import timezone

from django_durable import DurableError, Schedule, WorkflowCancelled, WorkflowFailed, WouldWaitForever, durable
from django_durable.models import Worker
from django_durable.store import clock
from django_durable.testing import environment
from tests.flows import activities, workflows
from tests.flows.models import Entry

HOUR = timedelta(hours=1)


def start_and_wait(*_: object) -> str:
    """In an activity's place: starts another workflow and waits for it."""
    return str(durable.start_workflow(workflows.nap, 3600).result())


class Runs:
    """What holds in a plain ``TestCase`` and in a ``TransactionTestCase`` alike."""

    def test_a_run_goes_from_start_to_result(self):
        with environment() as env:
            handle = env.start(workflows.effects, "a", 4)
            assert handle.status().status == "pending"
            assert handle.result() == ["a/0", "a/1", "a/2", "a/3"]
            assert Entry.objects.count() == 4
            assert handle.history()[-1].type == "RunCompleted"

    def test_what_views_start_is_carried_too(self):
        with environment() as env:
            with transaction.atomic():
                handles = durable.start_workflows([workflows.echo.call(number) for number in range(5)])
            env.run_until_idle()
            assert [handle.status().result for handle in handles] == [0, 1, 2, 3, 4]

    def test_results_wait_for_no_real_time(self):
        began = time.monotonic()
        with environment() as env:
            before = env.now()
            handle = env.start(workflows.nap, 3 * 86_400)
            assert handle.result(timeout=5) == "rested"
            assert env.now() == before + timedelta(days=3)
            assert handle.status().closed_at == env.now()
        assert time.monotonic() - began < 60

    def test_only_the_test_moves_the_clock(self):
        with environment() as env:
            before = env.now()
            handle = env.start(workflows.nap, 60)
            env.run_until_idle()
            assert (env.now(), handle.status().status) == (before, "running")
            assert handle.status().wakeup_at == before + timedelta(seconds=60)
            env.advance(timedelta(seconds=59))
            assert handle.status().status == "running"
            env.advance(timedelta(seconds=1))
            assert (env.now(), handle.status().status) == (before + timedelta(seconds=60), "completed")

    def test_everything_on_the_way_happens_at_its_own_time(self):
        with environment() as env:
            before = env.now()
            naps = [env.start(workflows.nap, 3600 * hours) for hours in (3, 1, 2)]
            env.advance(10 * HOUR)
            closed = [handle.status().closed_at for handle in naps]
            assert closed == [before + 3 * HOUR, before + 1 * HOUR, before + 2 * HOUR]
            assert env.now() - before == 10 * HOUR

    def test_the_clock_is_not_behind_that_of_the_tested_code(self):
        with environment() as env:
            handle = env.start(workflows.echo.using(start_at=timezone.now() + HOUR), 1)
            env.advance(HOUR - timedelta(minutes=1))
            assert handle.status().status == "pending"
            env.advance(timedelta(minutes=1))
            assert handle.status().status == "completed"

    def test_signals_reach_runs_that_wait_or_have_not_begun(self):
        with environment() as env:
            early = env.start(workflows.approval.using(workflow_id="early"))
            durable.signal_workflow("early", "approved", "ada")
            late = env.start(workflows.approval.using(workflow_id="late"))
            env.run_until_idle()
            late.signal("approved", "eve")
            env.run_until_idle()
            assert [early.status().result, late.status().result] == ["ada", "eve"]

    def test_a_wait_with_a_timeout_ends_with_it(self):
        with environment() as env:
            assert env.start(workflows.approval, 86_400.0).result() == "nobody came"

    def test_cancelling_and_terminating(self):
        with environment() as env:
            tidy = env.start(workflows.clean_up_when_cancelled, "k")
            rough = env.start(workflows.clean_up_when_cancelled, "l")
            env.run_until_idle()
            assert tidy.cancel("enough")
            assert rough.terminate("now")
            with pytest.raises(WorkflowCancelled, match="enough"):
                tidy.result()
            assert rough.status().status == "terminated"
            assert [entry.key for entry in Entry.objects.all()] == ["k"]

    def test_retries_come_when_their_time_has_come(self):
        with environment() as env:
            before = env.now()
            with env.mock(activities.add, lambda first, second: 1 / 0) as mock:
                with pytest.raises(WorkflowFailed, match="division"):
                    env.start(workflows.chain, 1).result()
            assert len(mock.calls) == activities.add.options.retry.max_attempts
            assert env.now() > before
            assert env.start(workflows.call, "flows.fail_until", ["k", 3]).result() == 3

    def test_activities_of_every_kind(self):
        with environment() as env:
            assert env.start(workflows.chain_async, 3).result() == 3
            assert env.start(workflows.call, "flows.record_async", ["k"]).result() == "k: 1"
            assert env.start(workflows.call, "flows.record_at_most_once", ["once", "k"]).result() == "k"
            assert env.start(workflows.call, "flows.elsewhere", ["k"]).result() == "k"
            assert env.start(workflows.all_in_one_place, ["1", "2", "3"]).result() == ["1", "2", "3"]
            assert env.start(workflows.call, "flows.fail_atomically_once", ["k"]).result() == 2
            assert Entry.objects.filter(kind="atomic_failure").count() == 1
            caught = env.start(workflows.catch, "flows.roll_back_silently", ["k"]).result()
            assert caught["type"] == "RolledBack"
            assert not Entry.objects.filter(kind="silent").exists()

    def test_a_fan_out(self):
        with environment() as env:
            assert env.start(workflows.fan_out, 300).result() == sum(range(300))

    def test_a_database_error_in_an_activity_leaves_the_test_usable(self):
        def collide(*_: object) -> int:
            before = Entry.objects.create(kind="before", key="k")
            Entry.objects.create(pk=before.pk, kind="twice", key="k")
            raise AssertionError

        with environment() as env:
            env.mock(activities.add, collide)
            with pytest.raises(WorkflowFailed) as failed:
                env.start(workflows.chain, 1).result()
            assert failed.value.cause is not None
            assert failed.value.cause.__cause__.type == IntegrityError.__name__  # type: ignore[union-attr]
            assert env.start(workflows.chain_async, 1).result() == 1

    def test_writes_of_a_failed_attempt_stay_as_in_production(self):
        with environment() as env:
            env.start(workflows.call, "flows.fail_until", ["k", 3]).result()
            assert Entry.objects.filter(kind="fail_until").count() == 3

    def test_an_activity_may_start_a_workflow_and_wait_for_it(self):
        with environment() as env:
            env.mock(activities.record, start_and_wait)
            before = env.now()
            assert env.start(workflows.call, "flows.record", ["a", "b"]).result() == "rested"
            assert env.now() - before == HOUR

    def test_an_activity_may_signal_and_cancel(self):
        def signal(*_: object) -> int:
            durable.signal_workflow("other", "approved", "from an activity")
            return 1

        with environment() as env:
            env.mock(activities.add, signal)
            other = env.start(workflows.approval.using(workflow_id="other"))
            env.start(workflows.chain, 1)
            env.run_until_idle()
            assert other.status().result == "from an activity"

    def test_time_may_pass_while_an_activity_runs(self):
        with environment() as env:
            with env.mock(activities.record, lambda *_: env.advance(HOUR)):
                assert env.start(workflows.race_with_timer, 0.0, 60.0).result() == "too late"
            with env.mock(activities.too_slow, lambda *_: env.advance(HOUR)) as mock:
                failed = env.start(workflows.catch, "flows.too_slow", ["k", 0.0]).result()
            assert failed["timeout"] == "start_to_close"
            assert len(mock.calls) == failed["attempts"] > 1

    def test_an_attempt_that_really_is_too_slow_is_tried_again(self):
        with environment() as env:
            assert env.start(workflows.call, "flows.too_slow", ["k", 0.6]).result() == "k"
            assert Entry.objects.filter(kind="too_slow").count() == 2

    def test_many_runs_at_once(self):
        with environment() as env:
            busy = [env.start(workflows.effects, str(number), 4) for number in range(20)]
            lazy = [env.start(workflows.nap, number) for number in range(20)]
            assert [handle.result() for handle in lazy] == ["rested"] * 20
            assert all(handle.status().is_closed for handle in busy)

    def test_a_result_that_cannot_come_names_what_is_missing(self):
        with environment() as env:
            handle = env.start(workflows.collect_signals.using(workflow_id="x"), 1)
            with pytest.raises(WouldWaitForever, match=r"'x'.*signal approved \(at .*workflows\.py:\d+\)"):
                handle.result()
            with pytest.raises(TimeoutError, match="approved"):
                handle.result(timeout=1)
            with pytest.raises(WouldWaitForever, match="Event"):
                env.start(workflows.never_ends).result()

    def test_waiting_inside_a_transaction_is_refused_as_in_production(self):
        with environment() as env:
            handle = env.start(workflows.echo, 1)
            with transaction.atomic():
                with pytest.raises(WouldWaitForever, match="inside an open transaction"):
                    handle.result()
                with pytest.raises(WouldWaitForever, match=r"advance\(\)"):
                    env.advance(HOUR)
                with pytest.raises(WouldWaitForever, match=r"run_until_idle\(\)"):
                    env.run_until_idle()
            assert handle.result() == 1

    def test_what_is_rolled_back_never_was(self):
        with environment() as env:
            handle = env.start(workflows.approval.using(workflow_id="x"))
            env.run_until_idle()
            with transaction.atomic():
                handle.signal("approved", "ada")
                durable.start_workflow(workflows.echo.using(workflow_id="y"), 1)
                transaction.set_rollback(True)
            assert handle.result() == "nobody came"
            with pytest.raises(DurableError):
                durable.get_workflow("y")

    def test_schedules_tick_on_the_way(self):
        with environment() as env:
            durable.create_schedule("hourly", Schedule(every=HOUR), workflows.effects, "a", 1)
            assert env.start(workflows.nap, 3.5 * 3600).result() == "rested"
            assert Entry.objects.count() in (3, 4)
            handle = env.start(workflows.collect_signals, 1)
            with pytest.raises(WouldWaitForever):
                handle.result()

    def test_chains_are_followed_to_their_end(self):
        with environment() as env:
            assert env.start(workflows.counts_down, 3).result()[0] == 3
            assert env.start(workflows.fails_at_first, 2).result()[0] == 3
            handle = env.start(workflows.takes_in_turn, [])
            handle.signal("approved", "one")
            env.run_until_idle()
            with pytest.raises(WouldWaitForever, match="signal approved"):
                handle.result()
            handle.signal("approved", "stop")
            assert handle.result() == ["one"]

    def test_definitions_that_come_later_are_known(self):
        with environment() as env:
            env.run_until_idle()
            name = "tests.declared_later"
            durable.workflow(name=name)(declared_later)
            try:
                assert env.start(durable.workflow_named(name), 3).result() == 6
            finally:
                del durable.registry._workflows[name]

    def test_a_blocked_run_says_why(self):
        with self.settings(DURABLE={"INSTANCE_CACHE_SIZE": 0}), environment() as env:  # type: ignore[attr-defined]
            handle = env.start(workflows.changing, 1)
            env.run_until_idle()
            workflows._versions["changed"] = "nothing"
            try:
                handle.signal("approved", "x")
                with pytest.raises(WouldWaitForever, match="does not repeat its history"):
                    handle.result()
            finally:
                workflows._versions["changed"] = "add"
            env.advance(HOUR)
            assert handle.result() == 3

    def test_without_the_instance_cache_every_wait_is_a_replay(self):
        with self.settings(DURABLE={"INSTANCE_CACHE_SIZE": 0}), environment() as env:  # type: ignore[attr-defined]
            handle = env.start(workflows.everything, "k")
            env.run_until_idle()
            env.advance(timedelta(seconds=1))
            handle.signal("approved", "word")
            assert handle.result()["word"] == "word"

    def test_nothing_is_left_behind(self):
        before = set(threading.enumerate())
        with environment() as env:
            env.start(workflows.effects, "a", 4).result()
            env.start(workflows.collect_signals, 1)
            env.run_until_idle()
        assert set(threading.enumerate()) == before
        assert abs(clock.read() - timezone.now()) < timedelta(minutes=1)
        assert not Worker.objects.exists()
        with environment() as env:
            env.run_until_idle()

    def test_there_is_one_environment_at_a_time(self):
        with environment(), pytest.raises(DurableError, match="another environment"), environment():
            pass

    def test_a_database_with_a_worker_is_refused(self):
        now = timezone.now()
        Worker.objects.create(
            name="w", concurrency=1, release="1", started_at=now, heartbeat_at=now, expires_at=now + HOUR
        )
        with pytest.raises(DurableError, match="A worker is running"), environment():
            pass

    def test_wrong_arguments_are_told(self):
        with environment() as env:
            with pytest.raises(TypeError, match="timedelta"):
                env.advance(3)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="back in time"):
                env.advance(-HOUR)

    async def test_async_tests_drive_it_through_its_twins(self):
        with await sync_to_async(_enter)(self) as env:  # type: ignore[arg-type]
            handle = await env.astart(workflows.nap, 60)
            await env.arun_until_idle()
            assert (await handle.astatus()).status == "running"
            assert await handle.aresult() == "rested"
            await env.aadvance(HOUR)
            await sync_to_async(self.doCleanups)()  # type: ignore[attr-defined]


async def declared_later(ctx: object, number: int) -> int:
    return number * 2


class _Entered:
    def __init__(self, env: object) -> None:
        self.env = env

    def __enter__(self):
        return self.env

    def __exit__(self, *_: object) -> None:
        pass


def _enter(case: TestCase):
    return _Entered(case.enterContext(environment()))


class InATestCase(Runs, TestCase):
    def test_its_transaction_is_left_alone(self):
        with environment() as env:
            env.start(workflows.effects, "a", 4).result()
            assert connection.in_atomic_block
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SELECT current_setting('idle_in_transaction_session_timeout')")
                    assert cursor.fetchone() == ("0",)


class InATransactionTestCase(Runs, TransactionTestCase):
    pass
