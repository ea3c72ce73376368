"""Apply inputs to owned runs and turn the commands into what is to be written and started."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, ClassVar

import msgspec

from django_durable import instrumentation
from django_durable.engine import commands, continuing, faults, polls
from django_durable.engine.drain import Drain
from django_durable.engine.pending import Pending
from django_durable.exceptions import DurableError
from django_durable.history import codec, events, messages
from django_durable.history.failures import Failure
from django_durable.history.replies import State
from django_durable.history.status import Status
from django_durable.payloads import payload
from django_durable.payloads.payload import Payload
from django_durable.store import children, following, history, inbox, runs, sends, tasks, updates
from django_durable.worker import offspring, successors, task_rows
from django_durable.worker.executors import Slots
from django_durable.worker.jobs import Job
from django_durable.worker.ownership import Input, OwnedRun
from django_durable.worker.watchdog import Watchdog

logger = logging.getLogger("django_durable.worker")

MAX_DRAIN_BYTES = 4_000_000
LOCAL_SHARE = 0.75  # of the slots that a run's owner may take for itself while spilled work waits


class DrainTooLarge(DurableError):
    """One drain wants more written than one commit should hold."""


class UnreadableMessage(events.Event, frozen=True):
    """In the place of an input that a newer release would know. It is never written."""

    is_input: ClassVar[bool] = True
    error: str


class CodeRaised(DurableError):
    """A workflow's code has raised, and a fault blocks its run: nothing of the drain is written."""

    def __init__(self, error: BaseException, *, event: int, where: str) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.error = error
        self.event = event
        self.where = where


class Drainer:
    """Drains runs in memory. Nothing it does is visible before the flush has committed."""

    def __init__(self, worker: int, slots: Slots, watchdog: Watchdog) -> None:
        self.worker = worker
        self.spilled_waits = False
        self.stopping = False  # the worker drains: everything new is for others
        self._slots = slots
        self._watchdog = watchdog
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

    def drain(self, run: OwnedRun, now: datetime) -> None:
        """Apply the run's next input. Raises whatever the engine raises: the run is parked then."""
        following = run.inputs.popleft()
        if isinstance(following.event, UnreadableMessage):
            raise codec.UnreadableEvent(
                f"A message for this run was written by a newer release of django_durable: {following.event.error}. "
                "Upgrade this worker."
            )
        run.draft.applied.append(following)
        if isinstance(following.event, events.UpdateAccepted) and self._refuse(run, following.event):
            return
        if not run.instance.accepts(following.event):
            return  # overtaken by what came before it: consumed without an event
        with self._watchdog.watching(run):
            pending = run.instance.activities.get(getattr(following.event, "activity", 0))
            event = polls.judge(pending, following.event, following.looks, now)
            drain = run.instance.apply(event, now) if not isinstance(event, polls.Again) else None
        if drain is not None:
            self.record(run, drain)
        elif pending is not None and isinstance(event, polls.Again):
            self._look_again(run, pending, event.delay, looks=following.looks + 1)

    def _look_again(self, run: OwnedRun, pending: Pending, delay: timedelta, *, looks: int) -> None:
        """What a look has found did not do: its outcome is consumed without an event, and the next one is due."""
        job = self.new_job(run, pending.command, pending.scheduled_at)
        job.looks = looks
        run.draft.spilled.append(unstarted_task(job, run.claimed.queue)._replace(delay=delay))

    def _refuse(self, run: OwnedRun, update: events.UpdateAccepted) -> bool:
        """Whether the workflow refuses an update; then only its reply is written."""
        with self._watchdog.watching(run):
            refusal = run.instance.refusal(update)
        run.stale = run.stale or run.instance.tainted
        if refusal is None:
            return False
        self._reply(run, update.id, State.REJECTED, failure=refusal)
        return True

    def leave_unhandled(self, run: OwnedRun) -> None:
        """Consume the messages behind the one that has ended the run: its code will never see them.

        Without this the end would find them in its way again and again. Only for a run whose inputs are in the order
        of a second try: a message that could have been applied before the end was.
        """
        late = [one for one in run.inputs if one.message is not None]
        if not late or run.draft.ending is None or run.draft.ending.follows is not None:
            return
        run.inputs = deque(one for one in run.inputs if one.message is None)
        run.draft.applied += late
        names = tuple(one.event.name for one in late if isinstance(one.event, events.SignalReceived))
        row = run.draft.events.pop()
        event: Any = codec.decode(row.type, row.data, codec.SCHEMA)
        event = msgspec.structs.replace(event, unhandled=(*event.unhandled, *names))
        run.draft.add(history.Row.of(row.run_id, row.sequence, row.time, event))

    def record(self, run: OwnedRun, drain: Drain) -> None:
        """Note what a drain wants written. Raises ``DrainTooLarge``."""
        before = run.draft.size
        if isinstance(drain.input, events.UpdateAccepted):
            self._reply(run, drain.input.id, State.ACCEPTED)
        if not isinstance(drain.input, events.RunStarted):
            run.draft.add(history.Row.of(run.claimed.run_id, drain.input_sequence, drain.time, drain.input))
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
            )  # fmt: skip
            instrumentation.send(
                instrumentation.history_long,
                workflow_id=run.workflow_id,
                run_id=run.claimed.run_id,
                name=run.definition.name,
                events=after,
            )

    def _note(self, run: OwnedRun, command: commands.Command, event: events.Event, drain: Drain) -> None:
        run.draft.add(history.Row.of(run.claimed.run_id, command.sequence, drain.time, event))

    def _schedule(self, run: OwnedRun, command: commands.ScheduleActivity, drain: Drain) -> None:
        """Kept if a slot is free now; else a task row in the same transaction. Never queued in memory."""
        if not self._may_keep(run, command):
            self._note(run, command, command.event(), drain)
            job = self.new_job(run, command, drain.time)
            run.draft.spilled.append(unstarted_task(job, run.claimed.queue, scheduled_at=drain.time))
            return
        pending = run.instance.activities.get(command.sequence)
        if pending is not None:
            pending.worker, pending.epoch = self.worker, run.claimed.epoch
        self._note(run, command, command.event(worker=self.worker, epoch=run.claimed.epoch), drain)
        run.draft.local.append(self.new_job(run, command, drain.time))

    def _may_keep(self, run: OwnedRun, command: commands.ScheduleActivity) -> bool:
        options = command.definition.options
        if self.stopping or options.priority or options.queue not in (None, run.claimed.queue):
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
            worker=self.worker,
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
            answer = Input(outcome_event(command.activity, messages.stopped(command.key)), key=command.key)
            run.draft.answers.append(answer)
            run.inputs.append(answer)
        else:
            run.draft.stops.append(command.key)

    def _complete_update(self, run: OwnedRun, command: commands.CompleteUpdate, drain: Drain) -> None:
        self._note(run, command, command.event(), drain)
        state = State.COMPLETED if command.failure is None else State.FAILED
        self._reply(run, command.id, state, result=command.result, failure=command.failure)

    def _reply(
        self, run: OwnedRun, update: str, state: State, *, result: Payload | None = None, failure: Failure | None = None
    ) -> None:
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
        return runs.Ending(run.claimed.chain_id, run.claimed.run_id, status, result, failure, follows, parent)


def unstarted_task(
    job: Job, queue: str, *, scheduled_at: datetime | None = None, interruptions: int = 0
) -> tasks.NewTask:
    """The task row of an activity that some worker is to execute; each interruption was one attempt.

    ``scheduled_at``: since when it waits for its first one.
    """
    job.attempt = job.interruptions = interruptions
    limit = job.definition.options.schedule_to_start
    start_before = None if limit is None or scheduled_at is None else scheduled_at + limit
    return task_rows.task_of(job, queue=queue, start_before=start_before)


def input_of(run: OwnedRun, waiting: inbox.Waiting) -> Input | None:
    """An inbox message as an input of this run. None: it is not for the run, but says that it is to rest."""
    message = waiting.message
    match message:
        case messages.Signal():
            return Input(events.SignalReceived(name=message.name, payload=message.payload), waiting.id)
        case messages.Update():
            event = events.UpdateAccepted(id=message.id, name=message.name, input=message.input)
            return Input(event, waiting.id)
        case messages.Cancel():
            return Input(events.CancelRequested(reason=message.reason), waiting.id)
        case messages.ActivityResult():
            outcome = outcome_event(run.sequence_of(message.key) or 0, message)
            return Input(outcome, waiting.id, key=message.key, looks=message.looks)
        case messages.ChildStart() | messages.ChildResult():
            return Input(offspring.event_of(run.child_of(message.key) or 0, message), waiting.id)
        case messages.ExternalResult():
            return Input(offspring.answer_of(run.request_of(message.key) or 0, message), waiting.id)
        case messages.Terminate():
            return Input(events.RunTerminated(reason=message.reason), waiting.id)
        case messages.Pause():
            return None
        case messages.Unreadable():
            return Input(UnreadableMessage(error=message.error), waiting.id)


def outcome_event(activity: int, message: messages.ActivityResult) -> events.Event:
    """The outcome of an activity as the event of its run; ``activity`` 0: nobody waits for it any more."""
    if message.failure is None:
        return events.ActivityCompleted(
            activity=activity, result=message.result or payload.NULL, attempts=message.attempts
        )
    return events.ActivityFailed(
        activity=activity,
        failure=message.failure,
        attempts=message.attempts,
        timeout=message.timeout,
        interrupted=message.interrupted,
    )
