"""The parts of a live run that its code touches."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine.activities import Activities
from django_durable.engine.batches import Batches
from django_durable.engine.callbacks import Callbacks, Opening
from django_durable.engine.calling import Calling
from django_durable.engine.children import Child, Children
from django_durable.engine.compensations import Compensations
from django_durable.engine.conditions import Conditions
from django_durable.engine.continuing import Continuing, check_length
from django_durable.engine.externals import Externals, Request
from django_durable.engine.handlers import Handlers
from django_durable.engine.info import Info, RunInfo
from django_durable.engine.log import WorkflowLog
from django_durable.engine.loop import DeterministicLoop
from django_durable.engine.patches import Patches
from django_durable.engine.pending import Pending
from django_durable.engine.recorder import Recorder
from django_durable.engine.showing import Showing
from django_durable.engine.signals import Signals
from django_durable.engine.tasks import Task
from django_durable.engine.timers import Timer
from django_durable.engine.values import Values
from django_durable.history import codec, events
from django_durable.history.events import Event
from django_durable.history.lingering import Lingering


class RunState:
    """Made when a run's first event is applied: everything follows from its seed, its time and the inputs."""

    __slots__ = (
        "_size",
        "activities",
        "batches",
        "beginning",
        "callbacks",
        "calling",
        "children",
        "compensations",
        "conditions",
        "continuing",
        "definition",
        "externals",
        "handlers",
        "info",
        "input",
        "log",
        "loop",
        "main",
        "patches",
        "reason",
        "recorder",
        "showing",
        "signals",
        "values",
    )

    def __init__(
        self,
        definition: WorkflowDefinition[..., Any],
        info: RunInfo,
        started: events.Recorded,
        beginning: events.RunStarted,
        *,
        marked: frozenset[str] | None,
    ) -> None:
        """``marked``: the patches whose markers stand in the history; None: nothing is recorded, all are taken."""
        seed, key = beginning.seed, info.run_id.hex
        self.definition = definition
        self.info = info
        self.beginning = beginning
        self.input = started  # the one that is being handled
        self.main: Task | None = None  # of the workflow's body
        self.reason: str | None = None  # of the request to cancel, once there was one
        self._size = 0  # of the history before it
        self.recorder = Recorder()
        self.loop = DeterministicLoop(  # type: ignore[abstract]  # the rest is set on its base class
            seed=seed, started=started.time, recorder=self.recorder
        )
        self.signals = Signals(self.loop, self.recorder)
        self.activities = Activities(self.loop, self.recorder, key=key)
        self.callbacks = Callbacks(self.loop, self.recorder, chain_id=info.chain_id, key=key, seed=seed)
        self.values = Values(seed, self.recorder)
        self.showing = Showing(self.loop, self.recorder, beginning.attributes)
        self.patches = Patches(self.recorder, marked)
        self.log = WorkflowLog(info, self._silent)
        self.handlers = Handlers(self.loop, self.recorder, self.signals, self.log)
        self.externals = Externals(self.loop, self.recorder, key=key)
        self.children = Children(self.loop, self.recorder, self.externals, key=key, source=str(beginning.seed))
        self.continuing = Continuing(definition, self.loop, self.recorder)
        self.calling = Calling(self.activities, self.children)
        self.batches = Batches(self.loop, self.recorder, self.calling)
        self.conditions = Conditions(self.loop, self.recorder)
        self.compensations = Compensations(
            self.loop,
            self.recorder,
            calling=self.calling,
            handlers=self.handlers,
            continuing=self.continuing,
            log=self.log,
            blocks=info.blocks,
        )
        self.loop.on_error = self._report
        self.loop.on_idle = self.conditions.wake

    def begin(self, recorded: events.Recorded, commands: list[events.Recorded] | None, *, size: int) -> None:
        """Open the drain of an input. ``size``: characters of the history before it."""
        self.input, self._size = recorded, size
        self.loop.set_time(recorded.time)
        self.recorder.begin(recorded.sequence, commands)
        self.recorder.verdict = check_length(recorded.sequence)

    def keep(self, bearer: Any, recorded: Event | None) -> None:
        """Let its part have a bearer under the sequence of its command, which stands in history as ``recorded``."""
        match bearer:
            case Pending():
                self.activities.keep(bearer, recorded)
            case Timer():
                self.loop.timers.add(bearer)
            case Opening():
                self.callbacks.keep(bearer, recorded)
            case Child():
                self.children.keep(bearer, recorded)
            case Request():
                self.externals.keep(bearer, recorded)

    def reset(self, event: events.RunReset, time: datetime) -> None:
        """From here on the run is one of its own: its id, and the keys and ids that are made of that."""
        self.info = replace(self.info, run_id=event.run_id)
        self.log.rename(event.run_id)
        key = event.run_id.hex
        self.activities.rekey(key)
        self.callbacks.rekey(key)
        self.externals.rekey(key)
        self.children.rekey(key, source=f"{self.beginning.seed} {key}")
        self.activities.begin_again(event, time)
        self.callbacks.begin_again(event)

    def tidy(self, *, closed: bool) -> None:
        """Forget failures that somebody has seen; at the run's end report those that nobody has, and calls unmade."""
        unseen = self.loop.take_unawaited() if self.loop.failed else []
        if not closed or self.recorder.replaying:
            return
        for task in unseen:
            self.log.error("%s failed, and nobody awaited it.", task.get_name(), exc_info=task._exception)
        for name in self.activities.unstarted():
            self.log.warning("ctx.activity(%s) was called and never awaited, so the activity was never run.", name)

    def clear(self) -> None:
        """Let go of everything that waits, after the loop was evicted."""
        self.activities.clear()
        self.signals.clear()
        self.handlers.clear()
        self.conditions.clear()
        self.compensations.clear()
        self.children.clear()
        self.externals.clear()
        self.callbacks.clear()

    def lingering(self) -> Lingering | None:
        """Open handlers that keep the run from ending, and signals that nobody takes; None if there are neither."""
        if not (self.handlers.open or self.signals.any):
            return None
        found = Lingering(
            handlers=tuple(self.handlers.awaited()), signals=tuple(dict.fromkeys(self.signals.unhandled()))
        )
        return found if found.handlers or found.signals else None

    def describe(self) -> Info:
        return Info(
            workflow_id=self.info.workflow_id,
            run_id=self.info.run_id,
            chain_id=self.info.chain_id,
            attempt=self.beginning.attempt,
            continued_from=self.beginning.continued_from,
            parent=self.beginning.parent,
            started_at=self.loop.started,
            events=self.input.sequence,
            bytes=self._size + (self.input.size or codec.size(self.input.event)),
            open_handlers=len(self.handlers.open),
        )

    def _silent(self) -> bool:
        return self.recorder.replaying or self.loop.evicted

    def _report(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.log.error("%s", context.get("message", "An error in the event loop"), exc_info=error)
