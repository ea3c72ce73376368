"""The commands of the drain under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from django_durable.engine import lines, scopes
from django_durable.engine.commands import Command
from django_durable.exceptions import DurableError, UnsupportedInWorkflow, WorkflowSuspended
from django_durable.history import events

COMMANDS_LIMIT = 2_000
"""Commands that one input may cause: one drain is written in one transaction, whose size must stay bounded."""


Entry = tuple[Command, Any]
"""A command, and its bearer: what waits for the sequence that the command gets when its drain ends."""


class DrainAborted(WorkflowSuspended):
    """Unwinds workflow code whose drain has been decided already: by a mismatch, or as a failure of the run."""


class Recorder:
    """Takes the commands of one drain at a time, and hands out what was recorded for it while replaying.

    ``verdict`` is set when the drain cannot go on whatever the code still does: the error that the run fails with, or
    None with ``effect_missing`` set when history does not hold a value that the code asks for.
    """

    __slots__ = (
        "_callbacks",
        "_cancels",
        "_counts",
        "_effects",
        "_entries",
        "_failed",
        "_open",
        "_tickets",
        "effect_missing",
        "input",
        "reading",
        "replaying",
        "tainted",
        "verdict",
    )

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._tickets = 0
        self._open = False
        self._effects: list[events.SideEffectRecorded] = []
        self._cancels: dict[int, events.ActivityCancelRequested] = {}
        self._callbacks: list[events.CallbackOpened] = []
        self._counts: Counter[Hashable] = Counter()
        self._failed = False
        self.input = 0
        """Sequence of the event whose drain it is."""
        self.replaying = False
        self.reading = False  # the code that runs may only look
        self.tainted = False  # such code has done more, so the instance is not what its history makes of it
        self.verdict: BaseException | None = None
        self.effect_missing = ""

    def begin(self, input: int, recorded: Sequence[events.Recorded] | None) -> None:
        """Open the drain of an input; ``recorded`` are its commands as history holds them, None if it is a new one."""
        self.input = input
        self._open = True
        self.replaying = recorded is not None
        if recorded:
            effects = [item.event for item in recorded if isinstance(item.event, events.SideEffectRecorded)]
            self._effects = effects[::-1]
            cancels = [item.event for item in recorded if isinstance(item.event, events.ActivityCancelRequested)]
            self._cancels = {event.activity: event for event in cancels}
            self._callbacks = [item.event for item in recorded if isinstance(item.event, events.CallbackOpened)]
            self._failed = isinstance(recorded[-1].event, events.RunFailed)

    def end(self) -> list[Entry]:
        """Close the drain: its commands, as issued, each with its bearer."""
        entries = list(self._entries.values())
        self._entries.clear()
        self._open = False
        if self._counts:
            self._counts.clear()
        if self.replaying:
            self._effects.clear()
            self._callbacks.clear()
            self._cancels.clear()
        return entries

    @property
    def aborted(self) -> bool:
        return self.verdict is not None or bool(self.effect_missing)

    def check(self) -> None:
        """Refuse everything once the drain is decided, and outside of one."""
        if self.verdict is not None or self.effect_missing:
            raise DrainAborted("This drain has ended.")
        if self.reading:
            raise UnsupportedInWorkflow(
                "The handler of a query, the validator of an update and the predicate of ctx.wait_until() can only "
                "look at the workflow. Activities, timers, waiting and random numbers belong into the workflow, or "
                "into the handler of an update."
            )
        if not self._open:
            raise UnsupportedInWorkflow(
                "A workflow's context was used from outside its own code. Use it only in the workflow that got it, "
                "and signal_workflow() to reach another run."
            )

    def issue(self, command: Command, bearer: Any = None) -> int:
        """Take a command; returns the ticket that withdraws it."""
        self.check()
        if len(self._entries) >= COMMANDS_LIMIT:
            self.fail(_too_many())
        if self.replaying and not command.where:
            command.where = lines.here()
        command.scope = scopes.current()
        self._tickets += 1
        self._entries[self._tickets] = (command, bearer)
        return self._tickets

    def withdraw(self, ticket: int) -> bool:
        """Take a command of this very drain back, as if it had not been. False if its drain is over."""
        return self._entries.pop(ticket, None) is not None

    def count(self, what: Hashable) -> int:
        """How often this drain has counted ``what``, with this time."""
        self._counts[what] += 1
        return self._counts[what]

    def recorded_effect(self) -> events.SideEffectRecorded:
        """The next value of this drain that history holds. Unwinds the workflow if there is none."""
        self.check()
        if self._effects:
            return self._effects.pop()
        if self._failed:  # the function raised, then as now there is no value
            self.fail(DurableError("A side effect failed."))
        self.effect_missing = lines.here() or "unknown"
        raise DrainAborted("History holds no value for this side effect.")

    def recorded_callback(self, name: str, chain_key: str) -> events.CallbackOpened | None:
        """The next callback of that name that this drain has opened; None: history holds no more of them."""
        found = next((one for one in self._callbacks if (one.name, one.chain_key) == (name, chain_key)), None)
        if found is not None:
            self._callbacks.remove(found)
        return found

    def recorded_cancel(self, activity: int) -> events.ActivityCancelRequested | None:
        """How this drain has given that activity up, as history holds it."""
        return self._cancels.get(activity)

    def fail(self, error: BaseException) -> None:
        """Decide that the run fails with ``error``, and unwind the workflow."""
        self.verdict = error
        raise DrainAborted("The run has failed.") from error


def _too_many() -> DurableError:
    return DurableError(
        f"The workflow asked for more than {COMMANDS_LIMIT:,} activities, timers and the like at once. Start them in "
        "portions, for instance behind an asyncio.Semaphore."
    )
