"""A run that this worker owns, and what it wants written next."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine.instance import Instance
from django_durable.engine.showing import Shown
from django_durable.history import codec, events, lingering, progress
from django_durable.history.lingering import Lingering
from django_durable.history.progress import Progress
from django_durable.payloads import sealing
from django_durable.store import claims, dispatch, flush, history, runs, sends, starts, tasks, updates
from django_durable.worker.jobs import Job


class Input(NamedTuple):
    """Something that reached a run and is not yet in its history, with what must be written together with it."""

    event: events.Event
    message: int | None = None  # inbox row that it came from
    held: tasks.Held | None = None  # task row whose outcome it is
    settles: str | None = None  # key of the atomic activity that it decides against
    key: str = ""  # of the activity whose outcome it is
    looks: int = 0  # of ctx.poll(), before the one whose outcome it is


class Draft:
    """What the drains since the last commit want written: dropped whole if something else reached the run first."""

    __slots__ = (
        "answers",
        "applied",
        "cancelled",
        "children",
        "ending",
        "events",
        "local",
        "progress",
        "replies",
        "sends",
        "shown",
        "size",
        "spilled",
        "stops",
    )

    def __init__(self) -> None:
        self.applied: list[Input] = []
        self.events: list[history.Row] = []
        self.size = 0
        self.local: list[Job] = []
        self.spilled: list[tasks.NewTask] = []
        self.cancelled: list[tuple[str, bool]] = []  # key, whether it is atomic
        self.answers: list[Input] = []  # inputs that follow from what is written here
        self.stops: list[str] = []  # keys of activities that are asked to stop, and whose end is waited for
        self.replies: dict[str, updates.Reply] = {}  # the latest of each update
        self.children: list[starts.NewRun] = []
        self.sends: list[sends.Send] = []
        self.ending: runs.Ending | None = None
        self.shown: dict[str, Any] = {}  # search attributes that have changed; None: removed
        self.progress: Progress | None = None

    @property
    def progresses(self) -> bool:
        """Whether the run comes on by this: an input that leaves no event, such as a look in vain, is one too."""
        return bool(self.events or self.applied)

    @property
    def is_shown(self) -> bool:
        """Whether there is something new for people to see."""
        return bool(self.shown) or self.progress is not None

    def show(self, shown: Shown) -> None:
        self.shown |= shown.attributes
        self.progress = shown.progress or self.progress

    def add(self, run_id: UUID, sequence: int, time: datetime, event: events.Event) -> None:
        row = history.Row.of(run_id, sequence, time, event)
        self.events.append(row)
        self.size += len(row.data) if sealing.state.is_plain else codec.size(event)

    def forget(self, key: str) -> list[Job]:
        """The workflow gave this activity up before it was started; returns jobs whose slots are free again."""
        self.spilled = [task for task in self.spilled if task.key != key]
        given_up = [job for job in self.local if job.key == key]
        self.local = [job for job in self.local if job.key != key]
        return given_up


class OwnedRun:
    """One run in this worker's hands. Lives from the claim to the release; its instance may be replaced meanwhile."""

    __slots__ = (
        "asked",
        "begins",
        "busy_until",
        "claimed",
        "definition",
        "draft",
        "ends_outside",
        "idle_since",
        "inputs",
        "instance",
        "messages",
        "noted",
        "pauses",
        "progressed",
        "running",
        "side",
        "stale",
        "timer",
        "tries",
        "was_blocked",
        "workflow_id",
    )

    def __init__(
        self,
        claimed: claims.Claimed,
        definition: WorkflowDefinition[..., Any],
        instance: Instance,
    ) -> None:
        self.claimed = claimed
        self.definition = definition
        self.workflow_id = claimed.workflow_id
        self.instance = instance
        self.inputs: deque[Input] = deque()
        self.messages: set[int] = set()  # inbox rows that are among the inputs or applied already
        self.running: dict[int, Job] = {}  # local activities by the sequence of their ActivityScheduled
        self.side: list[tasks.NewTask] = []  # task rows to write that no drain asked for: retries, interruptions
        self.draft = Draft()
        self.timer: tuple[datetime, int] | None = None  # the one that the engine's heap knows
        self.busy_until = 0.0  # time.monotonic() before which its row is not tried again
        self.tries = 0  # how often its end found that something else had come first
        self.idle_since: float | None = None
        self.progressed = False
        self.begins = claimed.hold == dispatch.DELAYED  # the hold goes with the first flush
        self.asked: set[int] = set()  # children, by their sequence, whose start is under way elsewhere
        self.ends_outside = False  # its code runs no more: it has timed out, or was cancelled before it began
        self.pauses = False  # nothing more is applied to it: its row may say that it is paused
        self.noted: Lingering | None = None  # what its row says of open handlers and of signals that nobody took
        self.was_blocked = False  # its row says so still, until a step of it is done
        self.stale = False  # its instance is to be replaced by a replay before the next input

    def __repr__(self) -> str:
        return f"<owned run {self.claimed.run_id} of {self.workflow_id}>"

    @property
    def wants_write(self) -> bool:
        draft = self.draft  # jobs without an event of their own are to run again: only once we know that we still may
        return bool(draft.events or draft.applied or draft.local or self.side or self.begins or draft.is_shown)

    @property
    def is_loaded(self) -> bool:
        """Whether its code is in memory."""
        return self.instance.sequence > 0

    @property
    def takes_inputs(self) -> bool:
        """Whether something is to be applied to it now."""
        return bool(self.inputs) and self.draft.ending is None and not self.pauses

    @property
    def must_be_replayed(self) -> bool:
        """Whether its instance must go before another input, which it can once the draft is written."""
        return self.stale and bool(self.draft.applied)

    def write(self) -> flush.RunWrite:
        """Everything that this run wants written, as one value."""
        draft, claimed = self.draft, self.claimed
        now = self.instance.lingering()
        settled = [one.settles for one in draft.applied if one.settles is not None]
        settled += [key for key, atomic in draft.cancelled if atomic]
        return flush.RunWrite(
            chain_id=claimed.chain_id,
            run_id=claimed.run_id,
            epoch=claimed.epoch,
            events=tuple(draft.events),
            consumed=tuple([one.message for one in draft.applied if one.message is not None]),
            spilled=(*self.side, *draft.spilled),
            finished=tuple([one.held for one in draft.applied if one.held is not None]),
            cancelled=tuple([key for key, _ in draft.cancelled]),
            stops=tuple(draft.stops),
            settled=tuple(settled),
            replies=tuple(draft.replies.values()),
            lingering=(lingering.encode(now),) if now != self.noted else None,
            ending=draft.ending,
            attributes=draft.shown,
            progress=progress.encode(draft.progress) if draft.progress is not None else None,
            reopens=self.tries > 0,
            begins=self.begins,
            acquits=draft.progresses and not draft.events and claimed.recoveries > 0 and not self.progressed,
            children=tuple(draft.children),
            sends=tuple(draft.sends),
        )

    def sequence_of(self, key: str) -> int | None:
        """The pending activity or callback that has this key."""
        found = _by_key(self.instance.activities, key)
        return _by_key(self.instance.callbacks, key) if found is None else found

    def child_of(self, key: str) -> int | None:
        """The child that replies under this key, if it has not ended."""
        return _by_key(self.instance.children, key)

    def request_of(self, key: str) -> int | None:
        """The message to another workflow that is answered under this key."""
        return _by_key(self.instance.requests, key)


def _by_key(pending: Mapping[int, Any], key: str) -> int | None:
    """Where ``key`` is pending. A key ends with the sequence that it was made from."""
    guess = key.rpartition("-")[2]
    if guess.isdigit():
        found = pending.get(int(guess))
        if found is not None and found.command.key == key:
            return int(guess)
    return next((sequence for sequence, one in pending.items() if one.command.key == key), None)
