"""From claimed chains to owned runs: histories are replayed, and what was in flight at the time is found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from django_durable import conf
from django_durable.engine.drain import Drain
from django_durable.engine.info import RunInfo
from django_durable.engine.instance import Instance
from django_durable.engine.pending import Pending
from django_durable.history import events, messages
from django_durable.history.failures import Failure
from django_durable.payloads import payload
from django_durable.store import dispatch, history, inbox, leases, outcomes, tasks
from django_durable.store.claims import Claimed
from django_durable.worker import inputs, task_rows
from django_durable.worker.drafting import Drafter
from django_durable.worker.executors import Slots
from django_durable.worker.instances import InstanceCache
from django_durable.worker.ownership import Input, OwnedRun
from django_durable.worker.serving import Serving
from django_durable.worker.watchdog import Watchdog


class Loaded(NamedTuple):
    """A run ready to go on, or the error that keeps it from going on."""

    run: OwnedRun
    error: BaseException | None = None
    where: str = ""  # the line at which its code got stuck, if that is the error


class Loader:
    """Makes instances for claimed chains, from the cache or by replay."""

    def __init__(
        self,
        drafter: Drafter,
        slots: Slots,
        cache: InstanceCache,
        watchdog: Watchdog,
        serving: Serving,
        *,
        pause: Callable[[OwnedRun], None],
    ) -> None:
        """``pause`` is told of runs that have a message which says that they are to rest."""
        self._drafter = drafter
        self._slots = slots
        self._cache = cache
        self._watchdog = watchdog
        self._serving = serving
        self._pause = pause

    def load(self, claims: Sequence[Claimed]) -> list[Loaded]:
        """Owned runs with live instances, their waiting messages among their inputs."""
        live = {claimed.chain_id: instance for claimed in claims if (instance := self._cache.take(claimed))}
        owned = [self._new_run(claimed, live.get(claimed.chain_id)) for claimed in claims]
        try:
            replayed = self._replay_all([run for run in owned if run.claimed.chain_id not in live])
            loaded = [replayed.get(run.claimed.chain_id) or Loaded(run) for run in owned]
            good = [one.run for one in loaded if one.error is None]
            self.reconcile(good)
            self.read_inbox(good)
        except BaseException:
            self._abandon(owned)
            raise
        return loaded

    def _abandon(self, owned: Sequence[OwnedRun]) -> None:
        """Nobody will ever know these: the database went away while they were loaded."""
        for run in owned:
            for job in run.draft.local:
                self._slots.give_back(kind=job.definition.executor)
            run.instance.evict()

    def untouched(self, claims: Sequence[Claimed]) -> list[OwnedRun]:
        """Owned runs whose code does not run."""
        return [self._new_run(claimed) for claimed in claims]

    def asked_to_end(self, held: Sequence[Claimed]) -> tuple[list[Claimed], list[Claimed]]:
        """Held runs that end without their code: those whose parent has ended, and those cancelled while delayed."""
        waiting = inbox.read([claimed.chain_id for claimed in held])
        kinds = {chain: {type(one.message) for one in found} for chain, found in waiting.items()}
        orphaned = [one for one in held if messages.Terminate in kinds.get(one.chain_id, ())]
        cancelled = [
            one
            for one in held
            if one.hold == dispatch.DELAYED and messages.Cancel in kinds.get(one.chain_id, ()) and one not in orphaned
        ]
        return orphaned, cancelled

    def reload(self, run: OwnedRun) -> BaseException | None:
        """Replace the run's instance by a replay of what is committed. The inputs stay."""
        run.instance.evict()
        run.instance = self._new_instance(run.claimed)
        return self._replay(run, history.read_lazily([run.claimed.run_id]).get(run.claimed.run_id, ())).error

    def _new_run(self, claimed: Claimed, instance: Instance | None = None) -> OwnedRun:
        definition = self._serving.definitions[claimed.definition]
        run = OwnedRun(claimed, definition, instance or self._new_instance(claimed))
        run.noted = run.instance.lingering()
        return run

    def _new_instance(self, claimed: Claimed) -> Instance:
        definition = self._serving.definitions[claimed.definition]
        info = RunInfo(
            workflow_id=claimed.workflow_id,
            run_id=claimed.run_id,
            chain_id=claimed.chain_id,
            name=definition.name,
            queue=claimed.queue,
            blocks=(definition.on_error or conf.current().ON_WORKFLOW_ERROR) == "block",
        )
        return Instance(definition, info)

    def _replay_all(self, fresh: Sequence[OwnedRun]) -> dict[UUID, Loaded]:
        if not fresh:
            return {}
        histories = history.read_lazily([run.claimed.run_id for run in fresh])
        return {run.claimed.chain_id: self._replay(run, histories.get(run.claimed.run_id, ())) for run in fresh}

    def _replay(self, run: OwnedRun, recorded: Iterable[events.Recorded]) -> Loaded:
        try:
            readable = list(recorded)
            with self._watchdog.watching(run):
                first: Drain | None = run.instance.replay(readable, touch=self._watchdog.touch)
            run.noted = run.instance.lingering() if first is None else None
            if first is not None:
                self._drafter.record(run, first)
        except BaseException as error:
            self._watchdog.leave()
            return Loaded(run, error, self._watchdog.where)
        return Loaded(run)

    # What was in flight

    def _open_again(self, owned: Sequence[OwnedRun]) -> None:
        """Callbacks of runs that were reset get a place for their answer, unless they have one or are answered."""
        opened = [(run, one.command) for run in owned for one in run.instance.callbacks.values() if one.again]
        if not opened:
            return
        places = {(run.claimed.chain_id, command.key) for run, command in opened}
        there = tasks.existing(places) | inbox.answered(places)
        for run, command in opened:
            if (run.claimed.chain_id, command.key) not in there:
                run.side.append(self._drafter.place_of(run, command))

    def reconcile(self, owned: Sequence[OwnedRun]) -> None:
        """Find out what became of local activities that some earlier owner had started.

        The order matters: task rows are looked at before the inbox, because a task's result is written as the task
        row is deleted.
        """
        self._open_again(owned)
        started = [(run, pending) for run in owned for pending in self._started_elsewhere(run)]
        if not started:
            return
        places = {(run.claimed.chain_id, pending.command.key) for run, pending in started}
        spilled = tasks.existing(places)
        decided = outcomes.read(places)
        answered = inbox.answered(places)
        alive = leases.living({pending.worker for _, pending in started if pending.worker is not None})
        for run, pending in started:
            place = (run.claimed.chain_id, pending.command.key)
            outcome = decided.get(place)
            if outcome is not None and outcome.result is not None:
                run.inputs.append(_succeeded(pending, outcome))
            elif place not in spilled and place not in answered:
                self._run_again(run, pending, died=pending.worker not in alive)

    def _started_elsewhere(self, run: OwnedRun) -> list[Pending]:
        """Pending activities whose event says that an owner ran them itself, and that do not run here; and those of
        a run that was reset."""
        known = set(run.running) | {job.sequence for job in run.draft.local}
        known |= {one.event.activity for one in run.inputs if _is_outcome(one.event)}  # type: ignore[attr-defined]
        side = {task.key for task in run.side}
        return [
            pending
            for sequence, pending in run.instance.activities.items()
            if (pending.worker is not None or pending.again) and sequence not in known
            if pending.command.key not in side
        ]

    def _run_again(self, run: OwnedRun, pending: Pending, *, died: bool) -> None:
        """An activity that was started, or was about to be, and left no trace."""
        command = pending.command
        job = self._drafter.new_job(run, command, pending.scheduled_at)
        if pending.stopping:
            outcome = inputs.outcome(command.sequence, messages.stopped(command.key))
            run.inputs.append(Input(outcome, key=command.key))
        elif pending.again == "again":
            run.side.append(task_rows.unstarted(job, run.claimed, scheduled_at=pending.scheduled_at))
        elif not died and pending.again is None:
            if self._slots.take(kind=command.definition.executor):
                run.draft.local.append(job)
            else:
                run.side.append(task_rows.unstarted(job, run.claimed))
        elif command.definition.options.at_most_once:
            run.inputs.append(_interrupted(pending))
        else:
            run.side.append(task_rows.unstarted(job, run.claimed, interruptions=1))

    def read_inbox(self, owned: Sequence[OwnedRun]) -> None:
        """Queue the messages that wait for these runs and are not among their inputs yet."""
        waiting = inbox.read([run.claimed.chain_id for run in owned])
        for run in owned:
            for one in waiting.get(run.claimed.chain_id, ()):
                if one.id in run.messages:
                    continue
                run.messages.add(one.id)
                following = inputs.of_message(run, one)
                if following is None:
                    self._pause(run)
                else:
                    run.inputs.append(following)


def _is_outcome(event: events.Event) -> bool:
    return isinstance(event, events.ActivityCompleted | events.ActivityFailed)


def _succeeded(pending: Pending, outcome: outcomes.Outcome) -> Input:
    result = payload.load(outcome.result or payload.dump(payload.NULL))
    event = events.ActivityCompleted(activity=pending.command.sequence, result=result, attempts=outcome.attempt)
    return Input(event, key=pending.command.key)


def _interrupted(pending: Pending) -> Input:
    failure = Failure(
        type="Interrupted",
        message="The process that ran this activity died, and at_most_once forbids another attempt.",
        non_retryable=True,
    )
    event = events.ActivityFailed(activity=pending.command.sequence, failure=failure, interrupted=True)
    settles = pending.command.key if pending.command.definition.options.atomic else None
    return Input(event, settles=settles, key=pending.command.key)
