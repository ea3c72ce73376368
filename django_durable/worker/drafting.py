"""What the commands of a drain want written, and started: an owned run's draft."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from django_durable import instrumentation
from django_durable.engine import commands, continuing, faults
from django_durable.engine.drain import Drain
from django_durable.exceptions import DurableError
from django_durable.history import events, messages
from django_durable.history.failures import Failure
from django_durable.history.replies import State
from django_durable.history.status import Status
from django_durable.payloads import payload
from django_durable.payloads.payload import Payload
from django_durable.store import children, following, runs, sends, tasks, updates
from django_durable.worker import inputs, offspring, reporting, successors, task_rows
from django_durable.worker.executors import Slots
from django_durable.worker.jobs import Job
from django_durable.worker.ownership import Input, OwnedRun

logger = logging.getLogger("django_durable.worker")

MAX_DRAIN_BYTES = 4_000_000
LOCAL_SHARE = 0.75  # of the slots that a run's owner may take for itself while spilled work waits


class DrainTooLarge(DurableError):
    """One drain wants more written than one commit should hold."""


class CodeRaised(DurableError):
    """A workflow's code has raised, and a fault blocks its run: nothing of the drain is written."""

    def __init__(self, error: BaseException, *, event: int, where: str) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.error = error
        self.event = event
        self.where = where


class Drafter:
    """Takes down what one worker's runs ask for. Nothing of it is visible before the flush has committed."""

    def __init__(self, worker: int, slots: Slots) -> None:
        self.spilled_waits = False  # the last look has found tasks that wait for a slot
        self.spills: frozenset[str] = frozenset()  # queues whose activities are never kept: they are to be let in
        self.stopping = False  # the worker drains: everything new is for others
        self._worker = worker
        self._slots = slots
        self._handlers: dict[type[commands.Command], Callable[[OwnedRun, Any, Drain], None]] = {
            commands.ScheduleActivity: self._schedule,
            commands.CancelActivity: self._cancel,
            commands.OpenCallback: self._open_callback,
            commands.CompleteUpdate: self._complete_update,
            commands.CompleteRun: self._complete,
            commands.FailRun: self._fail,
            commands.CancelRun: self._cancelled,
            commands.ContinueAsNew: self._continue,
            commands.ScheduleChild: self._schedule_child,
            commands.CancelChild: self._cancel_child,
            commands.SignalExternal: self._signal_external,
            commands.CancelExternal: self._cancel_external,
        }

    def record(self, run: OwnedRun, drain: Drain) -> None:
        """Note what a drain wants written. Raises ``DrainTooLarge``."""
        before = run.draft.size
        if isinstance(drain.input, events.UpdateAccepted):
            self.reply(run, drain.input.id, State.ACCEPTED)
        if not isinstance(drain.input, events.RunStarted):
            run.draft.add(run.claimed.run_id, drain.input_sequence, drain.time, drain.input)
        for command in drain.commands:
            handler = self._handlers.get(type(command))
            if handler is None or (drain.closing and isinstance(command, commands.ScheduleActivity)):
                self._note(run, command, command.event(), drain)
            else:
                handler(run, command, drain)
        if drain.shown is not None:
            run.draft.show(drain.shown)
        run.instance.size += run.draft.size - before
        self._warn_of_length(run, drain)
        if run.draft.size - before > MAX_DRAIN_BYTES:
            raise DrainTooLarge(
                f"Between two waits the workflow asked for {run.draft.size - before:,} bytes of history; "
                f"{MAX_DRAIN_BYTES:,} is the limit. Keep large values in your own tables and pass their keys."
            )

    def _warn_of_length(self, run: OwnedRun, drain: Drain) -> None:
        before, after = drain.input_sequence - 1, drain.input_sequence + len(drain.commands)
        if before < continuing.EVENTS_WARNED <= after and not drain.closing:
            logger.warning(
                "Run %s of workflow %s has %s events; it fails at %s. It should continue as new in good time: "
                "if ctx.info.should_continue_as_new: ctx.continue_as_new(...).",
                run.claimed.run_id, run.workflow_id, f"{after:,}", f"{continuing.EVENTS_LIMIT:,}",
                extra=reporting.fields_of_run(run),
            )  # fmt: skip
            instrumentation.send(
                instrumentation.history_long,
                workflow_id=run.workflow_id,
                run_id=run.claimed.run_id,
                name=run.definition.name,
                events=after,
            )

    def _note(self, run: OwnedRun, command: commands.Command, event: events.Event, drain: Drain) -> None:
        run.draft.add(run.claimed.run_id, command.sequence, drain.time, event)

    def _schedule(self, run: OwnedRun, command: commands.ScheduleActivity, drain: Drain) -> None:
        """Kept if a slot is free now; else a task row in the same transaction. Never queued in memory."""
        if not self._may_keep(run, command):
            self._note(run, command, command.event(), drain)
            job = self.new_job(run, command, drain.time)
            run.draft.spilled.append(task_rows.unstarted(job, run.claimed, scheduled_at=drain.time))
            return
        pending = run.instance.activities.get(command.sequence)
        if pending is not None:
            pending.worker, pending.epoch = self._worker, run.claimed.epoch
        self._note(run, command, command.event(worker=self._worker, epoch=run.claimed.epoch), drain)
        run.draft.local.append(self.new_job(run, command, drain.time))

    def _may_keep(self, run: OwnedRun, command: commands.ScheduleActivity) -> bool:
        options = command.definition.options
        if self.stopping or options.priority or options.queue not in (None, run.claimed.queue):
            return False
        if self.spills and run.claimed.queue in self.spills:
            return False
        share = LOCAL_SHARE if self.spilled_waits else 1.0
        return self._slots.take(kind=command.definition.executor, share=share)

    def new_job(self, run: OwnedRun, command: commands.ScheduleActivity, scheduled_at: datetime) -> Job:
        """The first attempt of an activity that this worker executes as the owner of its run."""
        limits = [command.definition.options.schedule_to_close]
        if command.polling is not None:
            limits.append(command.polling.timeout)
        limit = min((one for one in limits if one is not None), default=None)
        return Job(
            definition=command.definition,
            input=command.input,
            chain_id=run.claimed.chain_id,
            run_id=run.claimed.run_id,
            workflow_id=run.workflow_id,
            sequence=command.sequence,
            key=command.key,
            worker=self._worker,
            queue=command.definition.options.queue or run.claimed.queue,
            headers=run.instance.beginning.headers,
            expires_at=None if limit is None else scheduled_at + limit,
        )

    def _cancel(self, run: OwnedRun, command: commands.CancelActivity, drain: Drain) -> None:
        self._note(run, command, command.event(), drain)
        waiting = {task.key for task in (*run.side, *run.draft.spilled)} | {job.key for job in run.draft.local}
        for job in run.draft.forget(command.key):
            self._slots.give_back(kind=job.definition.executor)
        run.side = [task for task in run.side if task.key != command.key]
        if not command.wait:
            run.draft.cancelled.append((command.key, command.atomic))
        elif command.key in waiting:
            answer = Input(inputs.outcome(command.activity, messages.stopped(command.key)), key=command.key)
            run.draft.answers.append(answer)
            run.inputs.append(answer)
        else:
            run.draft.stops.append(command.key)

    def _complete_update(self, run: OwnedRun, command: commands.CompleteUpdate, drain: Drain) -> None:
        self._note(run, command, command.event(), drain)
        state = State.COMPLETED if command.failure is None else State.FAILED
        self.reply(run, command.id, state, result=command.result, failure=command.failure)

    def reply(
        self, run: OwnedRun, update: str, state: State, *, result: Payload | None = None, failure: Failure | None = None
    ) -> None:
        """Let the caller of an update know how it stands."""
        run.draft.replies[update] = updates.Reply(
            chain_id=run.claimed.chain_id,
            update_id=update,
            run_id=run.claimed.run_id,
            state=state,
            result=payload.dump(result) if result is not None else None,
            failure=msgspec.json.encode(failure).decode() if failure is not None else None,
        )

    def _open_callback(self, run: OwnedRun, command: commands.OpenCallback, drain: Drain) -> None:
        self._note(run, command, command.event(), drain)
        if not command.carried:
            run.draft.spilled.append(self.place_of(run, command))

    def place_of(self, run: OwnedRun, command: commands.OpenCallback) -> tasks.NewTask:
        """Where the answer to a callback is waited for."""
        return task_rows.callback_of(
            command,
            chain_id=run.claimed.chain_id,
            run_id=run.claimed.run_id,
            workflow_id=run.workflow_id,
            queue=run.claimed.queue,
        )

    def _complete(self, run: OwnedRun, command: commands.CompleteRun, drain: Drain) -> None:
        self._note(run, command, command.event(), drain)
        run.draft.ending = self._ending(run, Status.COMPLETED, result=payload.dump(command.result))

    def _fail(self, run: OwnedRun, command: commands.FailRun, drain: Drain) -> None:
        if run.instance.info.blocks and command.error is not None and faults.is_fault(command.error):
            raise CodeRaised(command.error, event=drain.input_sequence, where=command.where)
        follows = successors.retried(run, command)
        self._note(run, command, command.event(run_id=follows.run_id if follows else None), drain)
        failure = msgspec.json.encode(command.failure).decode()
        run.draft.ending = self._ending(run, Status.FAILED, failure=failure, follows=follows)

    def _cancelled(self, run: OwnedRun, command: commands.CancelRun, drain: Drain) -> None:
        self._note(run, command, command.event(), drain)
        failure = msgspec.json.encode({"type": "CancelledError", "message": command.reason}).decode()
        run.draft.ending = self._ending(run, Status.CANCELLED, failure=failure)

    def _continue(self, run: OwnedRun, command: commands.ContinueAsNew, drain: Drain) -> None:
        follows = successors.continued(run, command)
        self._note(run, command, command.event(run_id=follows.run_id), drain)
        run.draft.ending = self._ending(run, Status.CONTINUED_AS_NEW, follows=follows)

    def _schedule_child(self, run: OwnedRun, command: commands.ScheduleChild, drain: Drain) -> None:
        """A child whose id is fresh is inserted by the flush; others are started after it, on another connection."""
        self._note(run, command, command.event(), drain)
        if not command.explicit:
            run.draft.children.append(offspring.new_child(run, command))

    def _cancel_child(self, run: OwnedRun, command: commands.CancelChild, drain: Drain) -> None:
        self._note(run, command, command.event(), drain)
        run.draft.sends.append(sends.Send(messages.Cancel(reason=command.reason), chain_id=command.chain_id))

    def _signal_external(self, run: OwnedRun, command: commands.SignalExternal, drain: Drain) -> None:
        self._note(run, command, command.event(), drain)
        message = messages.Signal(name=command.name, payload=command.payload)
        run.draft.sends.append(
            sends.Send(message, chain_id=command.chain_id, workflow_id=command.workflow_id, answer=command.key)
        )

    def _cancel_external(self, run: OwnedRun, command: commands.CancelExternal, drain: Drain) -> None:
        self._note(run, command, command.event(), drain)
        message = messages.Cancel(reason=command.reason)
        run.draft.sends.append(sends.Send(message, workflow_id=command.workflow_id, answer=command.key))

    def _ending(
        self,
        run: OwnedRun,
        status: Status,
        *,
        result: str | None = None,
        failure: str | None = None,
        follows: following.Following | None = None,
    ) -> runs.Ending:
        link = run.instance.beginning.parent
        parent = children.Parent(link.chain_id, link.key) if link is not None else None
        keeps = tuple(one.key for one in follows.started.callbacks) if follows is not None else ()
        pending = [one.command for one in run.instance.activities.values()]
        unseen = tuple(command.key for command in pending if command.definition.options.atomic)
        return runs.Ending(
            run.claimed.chain_id,
            run.claimed.run_id,
            status,
            result,
            failure,
            follows,
            parent,
            keeps=keeps,
            unseen=unseen,
            inherited=tuple(run.instance.inherited.difference(unseen)),
        )
