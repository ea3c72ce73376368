"""Programs on the engine alone: everything that workers and the database do is played here, by a seed.

Time is virtual, several chains run side by side, and what comes at the same moment comes in an order of chance. It
stores nothing: what it knows of a run is its history and its instance.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any
from uuid import UUID

import msgspec

from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine import commands
from django_durable.engine.drain import Drain
from django_durable.engine.instance import Instance, RunInfo
from django_durable.history import events, messages
from django_durable.history.events import Event, Recorded
from django_durable.history.failures import Failure
from django_durable.payloads import arguments, codec, payload
from tests.programs.generating import Program
from tests.programs.interpreter import AGAIN, interpret
from tests.unit.engine_harness import START, continued, recorded_commands

MOST_STEPS = 5_000
PREFIXES = 4  # of one history that are tried besides the first and the last
LOSSES = 0.25  # of the drains of a forgetful simulation
DURATIONS = (0, 0, 0.25, 1, 4)  # seconds that an activity takes

History = list[Recorded]


class Never(AssertionError):
    """The program does not come to an end."""


@dataclass
class Chain:
    """A workflow and its children know each other by these."""

    definition: WorkflowDefinition[..., Any]
    chain_id: UUID
    parent: events.Parent | None = None
    answer: Callable[[Event], None] = lambda event: None  # tells whoever waits for the end
    waiting: list[Event] = field(default_factory=list)  # messages that came between two runs
    runs: list[Run] = field(default_factory=list)
    children: list[Chain] = field(default_factory=list)
    closed: bool = False

    @property
    def current(self) -> Run | None:
        return self.runs[-1] if self.runs and not self.runs[-1].closed else None


class Run:
    """One run: its history, and the instance that is at the end of it."""

    def __init__(self, chain: Chain, run_id: UUID, started: events.RunStarted, now: datetime) -> None:
        self.chain = chain
        self.info = RunInfo(
            workflow_id=str(chain.chain_id),
            run_id=run_id,
            chain_id=chain.chain_id,
            name=chain.definition.name,
            queue="default",
        )
        self.started = started
        self.history = [Recorded(1, now, started)]
        self.ends: list[int] = []
        self.closed = False
        self.instance = self.fresh()

    def fresh(self) -> Instance:
        return Instance(self.chain.definition, self.info)

    def replay(self) -> None:
        """As a worker does that has nothing of this run in memory."""
        self.instance.evict()
        self.instance = self.fresh()
        self.instance.replay(self.history)

    def begin(self, *, lost: bool) -> Drain:
        """Apply RunStarted. ``lost``: twice, because what came of it first was not committed."""
        drain: Drain | None = self.instance.replay(self.history)
        if lost:
            self.instance.evict()
            self.instance = self.fresh()
            drain = _same(drain, self.instance.replay(self.history))
        assert drain is not None
        return drain

    def apply(self, event: Event, now: datetime, *, lost: bool) -> Drain:
        """Apply an input, twice if what came of it first is ``lost``."""
        drain = self.instance.apply(event, now)
        if lost:
            self.replay()
            drain = _same(drain, self.instance.apply(event, now))
        self.history.append(Recorded(drain.input_sequence, drain.time, drain.input))
        return drain

    def check(self, random: Random) -> None:
        """Whatever prefix of the history a fresh instance starts from, it continues to the same history.

        Tried are the first, the last, and some of those between.
        """
        history = self.history
        if self.closed and events.ended_from_outside(history[-1].event) is not None:
            history = history[:-1]
        between = random.sample(self.ends[:-1], min(PREFIXES, len(self.ends) - 1))
        for end in (1, *between, *self.ends[-1:]):
            assert _plain(continued(self.chain.definition, history, end, self.info)) == _plain(history)


class Simulation:
    """``forgetful``: no instance outlives an input, and some drains are lost once before they are kept."""

    def __init__(self, program: Program, seed: int, *, forgetful: bool = False) -> None:
        self.forgetful = forgetful
        self.now = START
        self.chains: dict[UUID, Chain] = {}
        self.replies: dict[str, str] = {}
        self.steps = 0
        self._random = Random(seed)
        self._losing = Random(seed)  # of its own, so that a forgetful simulation goes the same way
        self._numbers = itertools.count(1)
        self._agenda: list[tuple[datetime, Callable[[], object]]] = []
        definition = interpret.using(retry=AGAIN if program.tries > 1 else None)
        self.root = self._chain(Chain(definition, self._new_id()))
        self._start(self.root, definition.encode_input((program.body, "0", program.ties), {}))

    def __enter__(self) -> Simulation:
        return self

    def __exit__(self, *error: object) -> None:
        for run in self.runs:
            run.instance.evict()

    def check(self) -> None:
        """Replay its runs, and continue some of their prefixes."""
        for run in self.runs:
            run.check(self._losing)

    def run(self) -> None:
        """Until nothing is left to happen."""
        while (step := self._next()) is not None:
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise Never("This program goes on for ever.")
            step()
        assert all(chain.closed for chain in self.chains.values()), "nothing is left to happen to an open run"

    @property
    def runs(self) -> list[Run]:
        return [run for chain in self.chains.values() for run in chain.runs]

    @property
    def histories(self) -> list[tuple[UUID, History]]:
        return [(run.info.run_id, run.history) for run in self.runs]

    # Time

    def _next(self) -> Callable[[], object] | None:
        possible = [(due, partial(self._do, entry)) for entry in self._agenda for due in entry[:1]]
        for chain in self.chains.values():
            run = chain.current
            following = run.instance.next_timer() if run is not None else None
            if run is not None and following is not None:
                possible.append((following[0], partial(self._apply, run, events.TimerFired(timer=following[1]))))
        if not possible:
            return None
        earliest = min(due for due, _ in possible)
        self.now = max(self.now, earliest)
        return self._random.choice([step for due, step in possible if due == earliest])

    def _do(self, entry: tuple[datetime, Callable[[], object]]) -> None:
        self._agenda.remove(entry)
        entry[1]()

    def _later(self, seconds: float, step: Callable[[], object]) -> None:
        self._agenda.append((self.now + timedelta(seconds=seconds), step))

    def _some(self) -> float:
        return self._random.choice(DURATIONS)

    def _is_lost(self) -> bool:
        return self.forgetful and self._losing.random() < LOSSES

    # Runs

    def _chain(self, chain: Chain) -> Chain:
        self.chains[chain.chain_id] = chain
        return chain

    def _new_id(self) -> UUID:
        return UUID(int=next(self._numbers))

    def _start(self, chain: Chain, input: payload.Payload, **beginning: Any) -> None:
        """Begin the chain's next run. ``beginning``: further fields of RunStarted."""
        if chain.closed:
            return
        run_id = beginning.pop("run_id", chain.chain_id)
        started = events.RunStarted(
            input=input, seed=self._random.getrandbits(63), python="3.11", parent=chain.parent, **beginning
        )
        run = Run(chain, run_id, started, self.now)
        chain.runs.append(run)
        self._write(run, run.begin(lost=self._is_lost()))
        waiting, chain.waiting = chain.waiting, []
        for event in waiting:
            self._send(chain, event)

    def _send(self, chain: Chain, event: Event) -> bool:
        """Give a message to whatever run the chain has. False: it has ended."""
        if chain.closed:
            return False
        if chain.current is None:
            chain.waiting.append(event)
        else:
            self._apply(chain.current, event)
        return True

    def _apply(self, run: Run, event: Event) -> None:
        """An input reaches the run, unless it has ended or the input means nothing to it any more."""
        if run.closed:
            return
        if self.forgetful:
            run.replay()
        if isinstance(event, events.UpdateAccepted) and run.instance.refusal(event) is not None:
            self.replies[event.id] = "rejected"
            return
        if run.instance.accepts(event):
            self._write(run, run.apply(event, self.now, lost=self._is_lost()))

    def _write(self, run: Run, drain: Drain) -> None:
        recorded = recorded_commands(drain)
        run.closed = drain.closing is not None
        follows = None
        for command in drain.commands:
            if isinstance(command, commands.CLOSING):
                follows = self._end(run, command)
            elif (handler := _HANDLERS.get(type(command))) is not None and not run.closed:
                handler(self, run, command)
        if follows is not None:
            closing = recorded[-1]
            event = msgspec.structs.replace(closing.event, run_id=follows)
            recorded[-1] = Recorded(closing.sequence, closing.time, event)
        run.history += recorded
        run.ends.append(len(run.history))

    def _end(self, run: Run, command: Any) -> UUID | None:
        """The id of the run that follows, if one does."""
        follows = self._new_id()
        started = {"run_id": follows, "continued_from": run.info.run_id}
        match command:
            case commands.ContinueAsNew(input=input, signals=signals):
                self._later(0, partial(self._start, run.chain, input, signals=signals, **started))
                return follows
            case commands.FailRun(error=error, signals=signals) if self._is_tried_again(run, error):
                attempt = run.started.attempt
                pause = AGAIN.delay(attempt, self._random.random).total_seconds()
                again = partial(self._start, run.chain, run.started.input, signals=signals, attempt=attempt + 1)
                self._later(pause, partial(again, **started))
                return follows
            case commands.CompleteRun(result=result):
                self._close(run.chain, events.ChildCompleted(child=0, result=result))
            case commands.FailRun(failure=failure):
                self._close(run.chain, events.ChildFailed(child=0, failure=failure, status="failed"))
            case commands.CancelRun(reason=reason):
                failure = Failure(type="CancelledError", message=reason)
                self._close(run.chain, events.ChildFailed(child=0, failure=failure, status="cancelled"))
        return None

    def _is_tried_again(self, run: Run, error: BaseException | None) -> bool:
        policy = run.chain.definition.options.retry
        if policy is None or error is None or run.instance.was_asked_to_end:
            return False
        return policy.allows(error, run.started.attempt)

    def _close(self, chain: Chain, answer: Event) -> None:
        chain.closed = True
        chain.answer(answer)
        for child in chain.children:
            how = child.definition.options.parent_close
            if how == "terminate":
                self._later(self._some(), partial(self._terminate, child))
            elif how == "cancel":
                self._later(self._some(), partial(self._send, child, events.CancelRequested(reason="parent")))

    def _terminate(self, chain: Chain) -> None:
        if chain.closed:
            return
        run = chain.current
        if run is not None:
            run.closed = True
            ended = events.RunTerminated(reason="parent")
            run.history.append(Recorded(len(run.history) + 1, max(self.now, run.history[-1].time), ended))
        self._close(chain, events.ChildFailed(child=0, failure=Failure(type="", message=""), status="terminated"))

    # What runs ask for

    def _schedule(self, run: Run, command: commands.ScheduleActivity) -> None:
        place, outcome = command.sequence, command.definition
        path, *rest = outcome.decode_input(command.input)[0]
        seconds: float = self._some()
        event: Event = events.ActivityCompleted(activity=place, result=codec.encode(path, what="A path"))
        match outcome.registered_name, rest:
            case "programs.stumble", _:
                event = msgspec.structs.replace(event, attempts=2)
            case "programs.refuse", _:
                event = events.ActivityFailed(activity=place, failure=Failure(type="ValueError", message=path))
            case "programs.slow", [length]:
                seconds = length
            case "programs.look", [length]:
                seconds = length
                event = events.ActivityCompleted(activity=place, result=codec.encode(True, what="A look"), attempts=3)
            case "programs.ask", [what, delay]:
                event = events.ActivityCompleted(activity=place, result=payload.NULL)
                self._later(seconds + delay, partial(self._run_errand, run.chain, path, what))
        self._later(seconds, partial(self._apply, run, event))

    def _run_errand(self, chain: Chain, path: str, what: str) -> None:
        match what:
            case "signal":
                self._send(chain, events.SignalReceived(name=path, payload=payload.NULL))
            case "update" | "wrong update":
                packed = arguments.pack((what == "update",), {}, what="The arguments of an update")
                update = f"{path} {next(self._numbers)}"
                self._send(chain, events.UpdateAccepted(id=update, name=path, input=packed))
            case "cancel":
                self._send(chain, events.CancelRequested(reason=path))
            case "fulfil" | "break":
                self._fulfil(chain, path, succeeds=what == "fulfil")

    def _fulfil(self, chain: Chain, name: str, *, succeeds: bool) -> None:
        run = chain.current
        opened = run.instance.callbacks.items() if run is not None else ()
        for place in [place for place, one in opened if one.command.name == name]:
            event: Event = events.ActivityFailed(activity=place, failure=Failure(type="Broken", message=name))
            if succeeds:
                event = events.ActivityCompleted(activity=place, result=codec.encode(name, what="A promise"))
            self._send(chain, event)

    def _open_callback(self, run: Run, command: commands.OpenCallback) -> None:
        assert command.timeout is not None
        failure = Failure(type="TimeoutError", message=command.name)
        event = events.ActivityFailed(activity=command.sequence, failure=failure, timeout="timeout")
        self._later(command.timeout.total_seconds(), partial(self._apply, run, event))

    def _cancel_activity(self, run: Run, command: commands.CancelActivity) -> None:
        if command.wait and self._random.random() < 0.5:  # else it ends as if nothing had happened
            failure = messages.stopped(command.key).failure
            assert failure is not None
            event = events.ActivityFailed(activity=command.activity, failure=failure)
            self._later(self._some(), partial(self._apply, run, event))

    def _schedule_child(self, run: Run, command: commands.ScheduleChild) -> None:
        parent = events.Parent(
            workflow_id=run.info.workflow_id,
            run_id=run.info.run_id,
            chain_id=run.chain.chain_id,
            key=command.key,
        )

        def answer(event: Event) -> None:
            addressed = msgspec.structs.replace(event, child=command.sequence)
            self._later(self._some(), partial(self._apply, run, addressed))

        child = self._chain(Chain(command.definition, command.run_id, parent, answer))
        run.chain.children.append(child)
        self._later(self._some(), partial(self._start, child, command.input))

    def _cancel_child(self, run: Run, command: commands.CancelChild) -> None:
        event = events.CancelRequested(reason=command.reason)
        self._later(self._some(), partial(self._send, self.chains[command.chain_id], event))

    def _signal(self, run: Run, command: commands.SignalExternal) -> None:
        assert command.chain_id is not None
        event = events.SignalReceived(name=command.name, payload=command.payload)
        self._later(self._some(), partial(self._deliver, run, self.chains[command.chain_id], event, command.sequence))

    def _deliver(self, run: Run, chain: Chain, event: Event, request: int) -> None:
        failure = Failure(type="WorkflowClosed", message="It has ended.")
        answer: Event = events.ExternalFailed(request=request, failure=failure)
        if self._send(chain, event):
            answer = events.ExternalDelivered(request=request)
        self._later(self._some(), partial(self._apply, run, answer))

    def _complete_update(self, run: Run, command: commands.CompleteUpdate) -> None:
        self.replies[command.id] = "completed" if command.failure is None else "failed"


_HANDLERS: dict[type[commands.Command], Callable[[Simulation, Run, Any], None]] = {
    commands.ScheduleActivity: Simulation._schedule,
    commands.OpenCallback: Simulation._open_callback,
    commands.CancelActivity: Simulation._cancel_activity,
    commands.ScheduleChild: Simulation._schedule_child,
    commands.CancelChild: Simulation._cancel_child,
    commands.SignalExternal: Simulation._signal,
    commands.CompleteUpdate: Simulation._complete_update,
}


def _same(lost: Drain | None, again: Drain | None) -> Drain:
    assert lost is not None
    assert again is not None
    assert [one.event() for one in lost.commands] == [one.event() for one in again.commands]
    return again


def _plain(history: History) -> History:
    """Without the id of the run that follows, which is not the engine's to give."""
    last = history[-1]
    if not isinstance(last.event, events.RunFailed | events.RunContinuedAsNew):
        return history
    plain = msgspec.structs.replace(last.event, run_id=None)
    if isinstance(plain, events.RunFailed):
        failure = msgspec.structs.replace(plain.failure, traceback="")
        plain = msgspec.structs.replace(plain, unhandled=(), failure=failure)
    return [*history[:-1], Recorded(last.sequence, last.time, plain)]
