"""What must be true of the tables after every step: after each commit of a worker, and whenever nothing is left to do.

The numbers are those of the catalogue of invariants that these come from.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Model

from django_durable.history import events, messages
from django_durable.history.events import Recorded
from django_durable.history.status import CLOSED
from django_durable.models import ActivityOutcome, ActivityTask, Dispatch, InboxMessage, Worker, WorkflowRun
from django_durable.payloads import payload
from django_durable.store import clock, history, inbox
from tests.integration.worker.invariants import assert_answers_fit
from tests.programs.interpreter import PATIENCE

Opened = events.ActivityScheduled | events.CallbackOpened


class Invariants:
    """Looks at everything in the database, and remembers what must not change from one look to the next."""

    def __init__(self) -> None:
        self.looks = 0
        self.runs: dict[UUID, WorkflowRun] = {}
        self.dispatch: dict[UUID, Dispatch] = {}
        self.tasks: dict[tuple[UUID, str], ActivityTask] = {}
        self.outcomes: list[ActivityOutcome] = []
        self.workers: dict[int, Worker] = {}
        self.inbox: dict[UUID, list[inbox.Waiting]] = {}
        self.histories: dict[UUID, list[Recorded]] = {}
        self.epochs: dict[UUID, tuple[int, int | None]] = {}
        self.ended: dict[UUID, str] = {}
        self.due: dict[tuple[UUID, str], tuple[int, datetime]] = {}
        self.idle = False
        self.now = clock.read()

    def look(self, *, idle: bool = False) -> None:
        """``idle``: nothing is left to do now. Raises ``AssertionError`` that names the invariant."""
        self.looks += 1
        self.idle, self.now = idle, clock.read()
        self._read()
        for check in CHECKS:
            try:
                check(self)
            except AssertionError as error:
                raise AssertionError(f"{check.__name__}: {error}") from error

    def _read(self) -> None:
        self.runs = _by(WorkflowRun, "pk")
        self.dispatch = _by(Dispatch, "pk")
        self.tasks = {(one.chain_id, one.key): one for one in ActivityTask.objects.all()}
        self.outcomes = list(ActivityOutcome.objects.all())
        self.workers = _by(Worker, "pk")
        self.inbox = inbox.read(list(InboxMessage.objects.values_list("chain_id", flat=True).distinct()))
        before, self.histories = self.histories, history.read(list(self.runs))
        for run_id, recorded in before.items():
            assert self.histories[run_id][: len(recorded)] == recorded, f"I9: events of run {run_id} have changed"

    # One by one

    def i1_every_task_belongs_to_an_open_run(self) -> None:
        for (chain, key), task in self.tasks.items():
            assert chain in self.dispatch, f"task {key} has no chain"
            assert task.run_id == self.dispatch[chain].run_id, f"task {key} is of an earlier run"

    def i2_what_nobody_has_is_due_some_time(self) -> None:
        for row in self.dispatch.values():
            if self.idle and row.owner is None and row.hold is None and self.inbox.get(row.chain_id):
                assert row.wakeup_at is not None, f"{row} has messages and never wakes up"

    def i3_who_has_something_is_known_since_when_and_until_when(self) -> None:
        for row in self.dispatch.values():
            assert (row.owner is None) or (row.owner in self.workers and row.epoch > 0 and row.claimed_at is not None)
        for task in self.tasks.values():
            if task.worker is not None and not task.external:
                assert task.worker in self.workers
                assert task.attempt > 0
            if task.worker is None and not task.external:
                assert task.deadline is None
                assert task.attempt_ends_at is None

    def i4_who_sleeps_waits_for_something(self) -> None:
        for row in self._asleep():
            waits = _open_waits(self.histories[row.run_id])
            assert waits or self.inbox.get(row.chain_id), f"{row} sleeps, and waits for nothing"

    def i5_nobody_sleeps_whose_wait_is_over(self) -> None:
        for row in self._asleep():
            waits = _open_waits(self.histories[row.run_id])
            for one in waits.values():
                match one.event:
                    case events.TimerStarted(duration=duration):
                        due = one.time + timedelta(microseconds=duration)
                        assert row.wakeup_at is not None, f"{row} has a timer and never wakes up"
                        assert row.wakeup_at <= max(due, self.now), f"{row} sleeps longer than its timer"
                    case events.ActivityScheduled(key=key) | events.CallbackOpened(key=key):
                        assert (row.chain_id, key) in self.tasks or self._is_answered(row.chain_id, key), (
                            f"{row} waits for activity {key}, which nobody will execute"
                        )
            if self.idle:
                assert not self.inbox.get(row.chain_id), f"{row} sleeps, and has messages"

    def i6_what_has_ended_has_nothing(self) -> None:
        chains = {run.chain_id for run in self.runs.values() if run.open_workflow_id is not None}
        left = {*self.dispatch, *self.inbox, *(one.chain_id for one in self.outcomes), *(key for key, _ in self.tasks)}
        assert left <= chains, f"{left - chains} have ended"
        assert chains <= self.dispatch.keys(), f"{chains - self.dispatch.keys()} are open and not dispatched"

    def i7_the_fence_rises_with_each_owner(self) -> None:
        for chain, row in self.dispatch.items():
            epoch, owner = self.epochs.get(chain, (0, None))
            assert row.epoch >= epoch, f"the epoch of {row} has fallen"
            if row.epoch == epoch:
                assert row.owner in (owner, None), f"{row} has another owner under the same epoch"
            self.epochs[chain] = row.epoch, row.owner

    def i8_one_living_worker_has_it(self) -> None:
        for row in self.dispatch.values():
            if self.idle and row.owner is not None:
                assert not self.workers[row.owner].dead, f"{row} belongs to a dead worker"
        alive = [worker for worker in self.workers.values() if not worker.dead]
        assert len(alive) <= 1, f"{alive} live at once in one process"

    def i9_histories_have_no_gaps(self) -> None:
        for run_id, recorded in self.histories.items():
            assert [one.sequence for one in recorded] == list(range(1, len(recorded) + 1)), run_id
            assert isinstance(recorded[0].event, events.RunStarted)
            assert all(one.time <= other.time for one, other in itertools.pairwise(recorded))

    def i10_what_has_ended_stays_ended(self) -> None:
        for run_id, run in self.runs.items():
            if run.status in CLOSED:
                assert self.ended.setdefault(run_id, run.status) == run.status
            else:
                assert run_id not in self.ended, f"{run} has ended and is {run.status}"

    def i11_every_answer_fits_one_request(self) -> None:
        for recorded in self.histories.values():
            assert_answers_fit(recorded)

    def i12_nothing_names_what_is_not_there(self) -> None:
        for row in self.dispatch.values():
            assert row.run_id == self._latest(row.chain_id), f"{row} is dispatched under another run"
        for (chain, key), task in self.tasks.items():
            scheduled = self.histories[task.run_id][task.scheduled - 1].event
            assert isinstance(scheduled, Opened), f"task {key} of {chain} was not asked for"
            assert scheduled.key == key
        for chain, waiting in self.inbox.items():
            for one in waiting:
                if isinstance(one.message, messages.ActivityResult | messages.ChildResult):
                    assert self._has_asked(chain, one.message.key), f"{one.message} answers what was not asked"

    def i13_the_result_is_there_with_its_event(self) -> None:
        for run_id, run in self.runs.items():
            last = self.histories[run_id][-1].event
            assert (run.status in CLOSED) == isinstance(last, events.CLOSING), f"{run} is {run.status} after {last}"
            assert (run.closed_at is not None) == (run.status in CLOSED)
            shown = payload.load(run.result) if run.result is not None else None
            assert shown == (last.result if isinstance(last, events.RunCompleted) else None)

    def i14_what_is_put_off_is_put_off_to_later(self) -> None:
        seen = self.due
        self.due = {place: (task.attempt, task.due_at) for place, task in self.tasks.items()}
        for place, (attempt, due) in self.due.items():
            if place in seen and attempt > seen[place][0]:
                assert due >= seen[place][1], f"{place} is due earlier than before"
        for row in self._asleep():
            assert not self.idle or row.wakeup_at is None or row.wakeup_at > self.now, f"{row} is due and not taken"

    def i15_nothing_times_out_early(self) -> None:
        for recorded in self.histories.values():
            for one in recorded:
                match one.event:
                    case events.TimerFired(timer=sequence):
                        started = recorded[sequence - 1]
                        assert isinstance(started.event, events.TimerStarted)
                        assert one.time >= started.time + timedelta(microseconds=started.event.duration), one
                    case events.ActivityFailed(activity=sequence, timeout=str()):
                        assert one.time >= recorded[sequence - 1].time + timedelta(seconds=PATIENCE), one

    # Looking

    def _asleep(self) -> list[Dispatch]:
        """Chains that nobody has, and that have begun and are not due."""
        return [
            row
            for row in self.dispatch.values()
            if row.owner is None and row.hold is None and len(self.histories[row.run_id]) > 1
            if row.wakeup_at is None or row.wakeup_at > self.now
        ]

    def _latest(self, chain: UUID) -> UUID:
        runs = [run for run in self.runs.values() if run.chain_id == chain]
        followed = {run.continued_from for run in runs}
        (last,) = [run.pk for run in runs if run.pk not in followed]
        return last

    def _is_answered(self, chain: UUID, key: str) -> bool:
        return any(getattr(one.message, "key", None) == key for one in self.inbox.get(chain, ()))

    def _has_asked(self, chain: UUID, key: str) -> bool:
        runs = [run.pk for run in self.runs.values() if run.chain_id == chain]
        return any(getattr(one.event, "key", None) == key for run in runs for one in self.histories[run])


CHECKS: list[Callable[[Invariants], None]] = [
    getattr(Invariants, name) for name in vars(Invariants) if name[:1] == "i" and name[1:2].isdigit()
]


def _by(model: type[Model], field: str) -> dict[Any, Any]:
    return {getattr(one, field): one for one in model._default_manager.all()}


def _open_waits(recorded: list[Recorded]) -> dict[int, Recorded]:
    """What the run has asked for and has no answer to, by its sequence."""
    found: dict[int, Recorded] = {}
    for one in recorded:
        match one.event:
            case (
                events.TimerStarted()
                | events.ActivityScheduled()
                | events.CallbackOpened()
                | events.ChildScheduled()
                | events.ExternalSignalRequested()
                | events.ExternalCancelRequested()
            ):
                found[one.sequence] = one
            case events.ActivityCancelRequested(activity=sequence, wait=False):
                found.pop(sequence, None)
            case events.TimerFired(timer=sequence) | events.TimerCancelled(timer=sequence):
                found.pop(sequence, None)
            case events.ActivityCompleted(activity=sequence) | events.ActivityFailed(activity=sequence):
                found.pop(sequence, None)
            case (
                events.ChildCompleted(child=sequence)
                | events.ChildFailed(child=sequence)
                | events.ChildStartFailed(child=sequence)
            ):
                found.pop(sequence, None)
            case events.ExternalDelivered(request=sequence) | events.ExternalFailed(request=sequence):
                found.pop(sequence, None)
    return found
