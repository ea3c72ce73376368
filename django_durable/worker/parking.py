"""Giving runs up: parked because they cannot go on here, or handed over because this worker stops."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Collection, Sequence
from datetime import timedelta
from functools import partial

from django_durable import instrumentation
from django_durable.exceptions import NonDeterminismError, WorkflowStuck, WorkflowSuspended
from django_durable.history import blocking, events, messages, vocabulary
from django_durable.history.blocking import Block
from django_durable.history.codec import UnreadableEvent
from django_durable.payloads import payload
from django_durable.store import claims, delivery, dispatch, flush, holds, inbox, leases, runs, tasks
from django_durable.worker import reporting, task_rows
from django_durable.worker.drafting import CodeRaised
from django_durable.worker.executors import Slots
from django_durable.worker.flushing import Flusher
from django_durable.worker.holdings import Holdings
from django_durable.worker.jobs import Job
from django_durable.worker.ownership import Draft, Input, OwnedRun

logger = logging.getLogger("django_durable.worker")

FIRST_PAUSE = timedelta(seconds=30)  # before a blocked run is tried again; doubled each time
LONGEST_PAUSE = timedelta(hours=1)


class Parking:
    """What happens to runs that leave this worker other than by ending or falling asleep."""

    def __init__(self, worker: int, holdings: Holdings, slots: Slots, flusher: Flusher) -> None:
        self._worker = worker
        self._holdings = holdings
        self._slots = slots
        self._flusher = flusher

    def is_the_runs_own(self, error: BaseException) -> bool:
        """Whether a ``BaseException`` came out of workflow code and is no reason to stop the worker."""
        return isinstance(error, WorkflowSuspended)

    # Blocked

    def park(self, run: OwnedRun, error: BaseException, *, where: str = "") -> None:
        """The engine cannot go on with this run: it waits for other code, and is tried again now and then."""
        if isinstance(error, NonDeterminismError):
            self._park(run, blocking.nondeterminism(error))
        elif isinstance(error, WorkflowStuck):
            self._park(run, blocking.stuck(where))
        elif isinstance(error, CodeRaised):
            logger.warning("The code of %r has raised.", run, exc_info=error.error, extra=reporting.fields_of_run(run))
            self._park(run, blocking.raised(error.error, event=error.event, where=error.where))
        elif isinstance(error, UnreadableEvent):
            self._park(run, blocking.unreadable(error), blocked_by=vocabulary.current())
        else:
            logger.error("The engine cannot go on with %r.", run, exc_info=error, extra=reporting.fields_of_run(run))
            self._park(run, blocking.failure(error))

    def park_crashing(self, run: OwnedRun, times: int) -> None:
        """Every worker that had this run died. When it is tried again, it is alone, and may take one more along."""
        self._park(run, blocking.crashing(times), recoveries=claims.PARK_AFTER - 1)

    def let_go_on(self, run: OwnedRun) -> None:
        """A parked run has done its next step, or has none to do: it goes on by itself.

        Not before: what blocks or hangs again in its next step must find how often it has done so.
        """
        self._flusher.persist(partial(self._take_hold_off, run))

    def _take_hold_off(self, run: OwnedRun) -> None:
        with leases.fenced(self._worker):
            if dispatch.unblock(self._worker, run.claimed.chain_id):
                runs.set_going(run.claimed.run_id)

    def _park(self, run: OwnedRun, block: Block, *, recoveries: int = 0, blocked_by: str = "") -> None:
        kept_inputs = [*run.draft.applied, *run.inputs]
        self._drop_draft(run)
        self.spill_in_place(run)
        kept = self._flusher.persist(partial(self._write_block, run, block, kept_inputs, recoveries, blocked_by))
        self._holdings.drop(run)
        run.instance.evict()
        if kept is None:
            return
        instrumentation.send(
            instrumentation.run_blocked,
            workflow_id=run.workflow_id,
            run_id=run.claimed.run_id,
            name=run.definition.name,
            block=kept,
        )

    def _write_block(
        self, run: OwnedRun, block: Block, inputs: Sequence[Input], recoveries: int, blocked_by: str
    ) -> Block | None:
        """None: the run is paused, and what is wrong with it shows when it goes on."""
        with leases.fenced(self._worker):
            self.keep_outcomes(run, inputs)
            if holds.settle(self._worker, run.claimed) is holds.Fate.PAUSED:
                return None
            kept = runs.set_blocked(run.claimed.run_id, block)
            dispatch.park(
                self._worker,
                run.claimed.chain_id,
                blocked_by=blocked_by or run.definition.fingerprint,
                delay=min(FIRST_PAUSE * 2 ** min(kept.times - 1, 12), LONGEST_PAUSE),
                recoveries=recoveries,
            )
        return kept

    def keep_outcomes(self, run: OwnedRun, inputs: Sequence[Input]) -> None:
        """Outcomes that only this process knows become messages, so that nothing is executed again."""
        known = []
        for one in inputs:
            message = _outcome_message(one)
            if message is None:
                continue
            if one.held is not None:
                self._holdings.reports[one.held] = delivery.Report(
                    held=one.held, outcome=message, settles=one.settles is not None
                )
            else:
                known.append((run.claimed.chain_id, message))
        inbox.deliver(known)

    # Again

    def prepare_again(self, run: OwnedRun, draft: Draft, result: flush.Result) -> None:
        """Put a refused draft's inputs back before those that wait, corrected by what was in the way."""
        if draft.answers:
            run.inputs = deque(one for one in run.inputs if one not in draft.answers)
        kept = [one for one in draft.applied if one not in draft.answers and one.held not in result.lost]
        run.inputs.extendleft(reversed([_corrected(run, one, result) for one in kept]))
        for (chain, key), outcome in result.succeeded.items():
            if chain == run.claimed.chain_id and not any(one.key == key for one in run.inputs):
                success = events.ActivityCompleted(
                    activity=int(key.rpartition("-")[2]), result=payload.load(outcome.result or "")
                )
                run.inputs.appendleft(Input(success, key=key))

    def put_in_order(self, run: OwnedRun, result: flush.Result) -> None:
        """Successes that are decided come first: no message can undo them. Then messages, then what was held."""
        decided = {key for chain, key in result.succeeded if chain == run.claimed.chain_id}

        def rank(one: Input) -> tuple[int, int]:
            if isinstance(one.event, events.ActivityCompleted) and one.key in decided:
                return 0, 0
            return (1, one.message) if one.message is not None else (2, 0)

        run.inputs = deque(sorted(run.inputs, key=rank))

    def still_ours(self, run: OwnedRun) -> bool:
        """Whether the run is this worker's under the same claim; if so, senders are asked to step back."""
        with leases.fenced(self._worker):
            mine = dispatch.owned(self._worker).get(run.claimed.chain_id) == run.claimed.epoch
            if mine:
                dispatch.set_closing([run.claimed.chain_id], self._worker)
        return mine

    # Handing over

    def hand_over(self, owned: Sequence[OwnedRun]) -> None:
        """Turn running local activities into task rows that this worker holds, so that their runs can be released."""
        moving = [run for run in owned if run.running]
        for run in moving:
            self.spill_in_place(run)
            if not run.inputs and not run.wants_write:
                run.idle_since = run.idle_since or 0.0

    def spill_in_place(self, run: OwnedRun, some: Collection[Job] | None = None) -> bool:
        """Give running local activities, all or ``some`` of them, task rows that this worker holds. False: busy."""
        jobs = [job for job in run.running.values() if job.held is None and (some is None or job in some)]
        if not jobs and not run.side:
            return True
        new = [task_rows.task_of(job, run.claimed, in_place=True) for job in jobs]
        result, refused = self._flusher.write(
            [
                flush.RunWrite(
                    chain_id=run.claimed.chain_id,
                    run_id=run.claimed.run_id,
                    epoch=run.claimed.epoch,
                    spilled=(*run.side, *new),
                )
            ]
        )
        if refused or result.verdicts.get(run.claimed.chain_id) is not flush.Verdict.WRITTEN:
            return False
        run.side = []
        for job in jobs:
            job.held = tasks.Held(job.chain_id, job.key, job.worker, job.attempt)
            del run.running[job.sequence]
        if not run.running and not run.inputs and not run.wants_write and run.idle_since is None:
            run.idle_since = time.monotonic()
        return True

    def _drop_draft(self, run: OwnedRun) -> None:
        for job in run.draft.local:
            self._slots.give_back(kind=job.definition.executor)
        run.draft = Draft()
        run.inputs.clear()


def _outcome_message(one: Input) -> messages.ActivityResult | None:
    """A local outcome as a message; None for what is in the inbox or comes again by itself."""
    event = one.event
    if one.message is not None or not isinstance(event, events.ActivityCompleted | events.ActivityFailed):
        return None
    key = one.key
    if isinstance(event, events.ActivityCompleted):
        return messages.ActivityResult(key=key, result=event.result, attempts=event.attempts, looks=one.looks)
    return messages.ActivityResult(
        key=key,
        failure=event.failure,
        attempts=event.attempts,
        timeout=event.timeout,
        interrupted=event.interrupted,
        looks=one.looks,
    )


def _corrected(run: OwnedRun, one: Input, result: flush.Result) -> Input:
    """An input that decided against an atomic activity that has succeeded becomes that success."""
    if one.settles is None:
        return one
    outcome = result.succeeded.get((run.claimed.chain_id, one.settles))
    if outcome is None or outcome.result is None:
        return one
    event = events.ActivityCompleted(
        activity=getattr(one.event, "activity", 0),
        result=payload.load(outcome.result),
        attempts=outcome.attempt,
    )
    return Input(event, message=one.message, held=one.held, key=one.key)
