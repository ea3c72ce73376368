"""Runs workflows by hand, without worker or database: every input is given, every command looked at.

``Run.result()`` replays every prefix of what happened in a fresh instance, applies the remaining inputs there, and
compares the whole history: so each test that uses it is a test of replay as well.
"""

from __future__ import annotations

import gc
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django_durable.definitions.activity import ActivityDefinition
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine.drain import Drain
from django_durable.engine.instance import Instance, RunInfo
from django_durable.history import events, failures
from django_durable.history.events import Event, Recorded
from django_durable.payloads import arguments, codec
from django_durable.payloads.payload import Payload

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
INFO = RunInfo(
    workflow_id="order-1",
    run_id=UUID("018f0000-0000-7000-8000-000000000001"),
    chain_id=UUID("018f0000-0000-7000-8000-000000000001"),
    name="tests.flow",
    queue="default",
)


def step(label: str) -> str:
    """The activity that most tests call; its label tells the calls apart."""
    return label


STEP: ActivityDefinition[[str], str] = ActivityDefinition(step, name="tests.step")


def payload(value: Any) -> Payload:
    return codec.encode(value, what="A value of the test")


def workflow(function: Any) -> WorkflowDefinition[..., Any]:
    return WorkflowDefinition(function, name=f"tests.{function.__name__}")


def accepted(name: str, *args: Any, id: str = "", **kwargs: Any) -> events.UpdateAccepted:
    packed = arguments.pack(args, kwargs, what="The test's arguments")
    return events.UpdateAccepted(id=id or name, name=name, input=packed)


class Run:
    """A run under the test's hands. ``history`` is what a worker would have written."""

    def __init__(self, definition: WorkflowDefinition[..., Any], *args: Any, seed: int = 7, **beginning: Any) -> None:
        """``beginning``: further fields of RunStarted."""
        self.definition = definition
        started = events.RunStarted(input=definition.encode_input(args, {}), seed=seed, python="3.11", **beginning)
        self.history: list[Recorded] = [Recorded(1, START, started)]
        self.ends: list[int] = []
        self.time = START
        self.instance = Instance(definition, INFO)
        drain = self.instance.replay(self.history)
        assert drain is not None
        self.drain = drain
        self._write(drain)

    # Inputs

    def complete(self, label: str, value: Any = None, *, after: float = 1) -> Drain:
        """The call of ``step`` with that label succeeds, with the label as its result unless another is given."""
        result = payload(label if value is None else value)
        return self.apply(events.ActivityCompleted(activity=self.pending[label], result=result), after=after)

    def fail(self, label: str, message: str = "broken", *, type: str = "ValueError", after: float = 1) -> Drain:
        failure = failures.Failure(type=type, message=message)
        return self.apply(events.ActivityFailed(activity=self.pending[label], failure=failure), after=after)

    def fulfil(self, name: str, value: Any = None, *, after: float = 1) -> Drain:
        """Somebody outside fulfils the callback of that name."""
        return self.apply(events.ActivityCompleted(activity=self.callbacks[name], result=payload(value)), after=after)

    def fire(self) -> Drain:
        """The next timer is due."""
        following = self.instance.next_timer()
        assert following is not None, "no timer is running"
        due, sequence = following
        self.time = max(self.time, due)
        return self.apply(events.TimerFired(timer=sequence), after=0)

    def signal(self, name: str, value: Any = None, *, after: float = 1) -> Drain:
        return self.apply(events.SignalReceived(name=name, payload=payload(value)), after=after)

    def update(self, name: str, *args: Any, id: str = "", after: float = 1, **kwargs: Any) -> Drain:
        """An update that is not refused; its id is its name unless another is given."""
        event = accepted(name, *args, id=id, **kwargs)
        assert self.instance.refusal(event) is None
        return self.apply(event, after=after)

    def refused(self, name: str, *args: Any, **kwargs: Any) -> failures.Failure:
        """Why an update is refused."""
        refusal = self.instance.refusal(accepted(name, *args, **kwargs))
        assert refusal is not None
        return refusal

    def query(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Asks a fresh instance, as callers do."""
        instance = Instance(self.definition, INFO)
        try:
            instance.look(self.history)
            return instance.answer(name, arguments.pack(args, kwargs, what="The test's arguments"))
        finally:
            instance.evict()

    def cancel(self, reason: str = "", *, after: float = 1) -> Drain:
        return self.apply(events.CancelRequested(reason=reason), after=after)

    def note(self, event: Event, *, after: float = 1) -> None:
        """Something that the code does not learn of is written from outside; the run goes on in a fresh instance."""
        self.time += timedelta(seconds=after)
        self.history.append(Recorded(len(self.history) + 1, self.time, event))
        self.ends.append(len(self.history))
        self.instance.evict()
        self.instance = self.replay()

    def apply(self, event: Event, *, after: float = 1) -> Drain:
        assert self.instance.accepts(event), f"{event} is not accepted"
        self.time += timedelta(seconds=after)
        self.drain = self.instance.apply(event, self.time)
        self._write(self.drain)
        return self.drain

    def _write(self, drain: Drain) -> None:
        if drain.input_sequence > 1:
            self.history.append(Recorded(drain.input_sequence, drain.time, drain.input))
        self.history += recorded_commands(drain)
        self.ends.append(len(self.history))
        assert [item.sequence for item in self.history] == list(range(1, len(self.history) + 1))
        assert self.instance.sequence == len(self.history)

    # Looking

    @property
    def callbacks(self) -> dict[str, int]:
        """Sequences of callbacks that nobody has fulfilled, by name."""
        return {opening.command.name: sequence for sequence, opening in self.instance.callbacks.items()}

    @property
    def pending(self) -> dict[str, int]:
        """Sequences of pending calls of ``step``, by label."""
        return {
            item.command.definition.decode_input(item.command.input)[0][0]: sequence
            for sequence, item in self.instance.activities.items()
        }

    @property
    def commands(self) -> list[str]:
        """Kinds of the last drain's commands."""
        return [type(command).__name__ for command in self.drain.commands]

    @property
    def kinds(self) -> list[str]:
        """Kinds of all events."""
        return [type(item.event).__name__ for item in self.history]

    @property
    def closing(self) -> Event:
        event = self.history[-1].event
        assert isinstance(event, events.CLOSING), f"the run is open, it waits at {self.instance.waiting()}"
        return event

    @property
    def failure(self) -> failures.Failure:
        assert isinstance(self.closing, events.RunFailed), self.closing
        return self.closing.failure

    def reply(self, id: str) -> Any:
        """What an update was answered with, or its failure."""
        (reply,) = [
            item.event
            for item in self.history
            if isinstance(item.event, events.UpdateCompleted) and item.event.id == id
        ]
        if reply.failure is not None:
            return reply.failure
        assert reply.result is not None
        return codec.decode(reply.result, what="The reply")

    def result(self) -> Any:
        """What the workflow returned, after every prefix of its history was replayed and continued."""
        self.check_replay()
        assert isinstance(self.closing, events.RunCompleted), self.closing
        return self.definition.decode_result(self.closing.result)

    # Replaying

    def check_replay(self) -> None:
        """Whatever prefix a fresh instance starts from, the remaining inputs give the same history."""
        for end in [1, *self.ends]:
            assert continued(self.definition, self.history, end) == self.history
        self.evict()

    def replay(self, definition: WorkflowDefinition[..., Any] | None = None) -> Instance:
        """A fresh instance at the end of this history, of other code if one is given."""
        instance = Instance(definition or self.definition, INFO)
        try:
            instance.replay(self.history)
        except BaseException:
            instance.evict()
            raise
        return instance

    def evict(self) -> None:
        self.instance.evict()


def recorded_commands(drain: Drain) -> list[Recorded]:
    return [Recorded(command.sequence, drain.time, command.event()) for command in drain.commands]


def continued(
    definition: WorkflowDefinition[..., Any], history: list[Recorded], end: int, info: RunInfo = INFO
) -> list[Recorded]:
    """Replay the first ``end`` events in a fresh instance, then apply the inputs among the others."""
    instance = Instance(definition, info)
    written = list(history[:end])
    drain = instance.replay(written)
    if drain is not None:
        written += recorded_commands(drain)
    for item in history[end:]:
        if isinstance(item.event, events.NOTES):
            written.append(item)
            instance.evict()
            instance = Instance(definition, info)
            instance.replay(written)
        elif item.event.is_input:
            assert instance.accepts(item.event)
            drain = instance.apply(item.event, item.time)
            written.append(Recorded(drain.input_sequence, drain.time, drain.input))
            written += recorded_commands(drain)
    instance.evict()
    return written


def collect() -> None:
    """Collect all garbage, several times over: what is freed may free more."""
    for _ in range(3):
        gc.collect()
