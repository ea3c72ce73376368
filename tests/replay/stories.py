"""What happened to the workflows beside this file when their histories were recorded.

``python -m tests.replay.stories`` records each of them on the Python that runs it, as ``<name>-py<version>.json``,
unless that file is there: recorded histories are never rewritten.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from django_durable.history import codec, events, failures
from django_durable.history.events import Recorded
from tests.replay.workflows import WORKFLOWS
from tests.unit.engine_harness import Run, payload

HERE = Path(__file__).parent


def order(run: Run) -> None:
    run.complete("charge 7", "receipt")
    run.complete("invoice")
    run.signal("rated", 5)
    run.complete("pack")
    run.fire()


def limits(run: Run) -> None:
    run.complete("b")
    run.fire()
    run.signal("word", "said")
    run.complete("c")


def race(run: Run) -> None:
    for label in "cfax":
        if label in run.pending:
            run.complete(label)
    run.complete("b")
    for label in "zxy":
        run.complete(label)


def groups(run: Run) -> None:
    run.complete("b")
    run.complete("a")
    run.fail("d", "no stock")


def cancelled(run: Run) -> None:
    run.signal("word", "one")
    run.signal("word", "two")
    run.complete("one")
    run.cancel("enough")
    run.complete("clean up")


def fails(run: Run) -> None:
    run.fail("a", "no money", type="CardDeclined")
    run.complete("compensate")


def handles(run: Run) -> None:
    run.signal("word", "early")
    run.complete("open")
    run.signal("rated", "not a number")
    run.complete("early")
    run.signal("rated", 5)
    run.signal("word", "late")
    run.signal("other")
    run.signal("stop")
    run.complete("late")


def updated(run: Run) -> None:
    run.update("add", "lamp", 2, id="u1")
    run.update("add", sku="bulb", id="u2")
    run.update("check", id="u3")
    run.update("remove", "lamp", id="u4")
    run.update("remove", "nothing", id="u5")
    run.fire()
    run.fire()
    run.signal("stop")
    run.complete("check", "in stock")


def update_cut_short(run: Run) -> None:
    run.update("check", id="u1")
    run.signal("stop")


def continues(run: Run) -> None:
    run.signal("word", "one")
    run.signal("word", "two")
    run.complete("one")
    run.signal("job", "three")
    run.signal("end")
    run.signal("word", "left")
    run.complete("three")


def paused(run: Run) -> None:
    run.note(events.RunPaused(reason="stocktaking"), after=10)
    run.note(events.RunResumed())
    run.complete("first", after=0)
    run.note(events.RunPaused())
    run.note(events.RunResumed())
    run.signal("word", "go")
    run.complete("last")


def reset(run: Run) -> None:
    first, second = UUID(int=1), UUID(int=2)
    run.note(events.RunReset(from_run=first, run_id=second, again=tuple(run.pending.values())))
    run.signal("word", "go")
    run.note(events.RunReset(from_run=second, run_id=run.instance.info.run_id, reason="once more"))
    run.complete(str(second))
    run.complete("left")


def patched(run: Run) -> None:
    run.complete("first")
    for label in ("left 0", "right 0", "right 1", "left 1"):
        run.complete(label)


def batch(run: Run) -> None:
    run.complete("b")
    run.fail("a", "no stock")
    run.complete("c twice")
    run.complete("c")
    run.fail("d", "no stock")


def until(run: Run) -> None:
    run.signal("approve", "Ada")
    run.complete("first")
    run.signal("approve", "Bob")
    run.complete("second")
    run.fire()


def _children(run: Run) -> dict[str, int]:
    """Sequences of the children by their label."""
    return {
        WORKFLOWS["child"].decode_input(one.event.input)[0][0]: one.sequence
        for one in run.history
        if isinstance(one.event, events.ChildScheduled)
    }


def children(run: Run) -> None:
    asked = _children(run)
    run.apply(events.ChildCompleted(child=asked["b"], result=payload("b")))
    run.apply(events.ChildStarted(child=asked["c"]))
    failure = failures.Failure(type="ValueError", message="broken", cause=failures.Failure(type="KeyError"))
    run.apply(events.ChildFailed(child=asked["c"], failure=failure, status="failed"))
    run.apply(events.ChildCompleted(child=asked["a"], result=payload("a")))
    (label,) = run.pending
    run.complete(label)
    run.apply(events.ExternalDelivered(request=run.instance.sequence))
    taken = failures.Failure(type="WorkflowAlreadyStarted", message="taken")
    run.apply(events.ChildStartFailed(child=_children(run)["e"], failure=taken))
    ended = failures.Failure(type="Terminated", message="by others")
    run.apply(events.ChildFailed(child=_children(run)["d"], failure=ended, status="terminated"))


def gives_children_up(run: Run) -> None:
    run.cancel("enough")
    ended = failures.Failure(type="CancelledError", message="enough")
    run.apply(events.ChildFailed(child=_children(run)["awaited"], failure=ended, status="cancelled"))
    run.complete("clean up")


def tells_others(run: Run) -> None:
    first, second = run.instance.requests
    run.apply(events.ExternalDelivered(request=second))
    run.apply(events.ExternalDelivered(request=first))
    closed = failures.Failure(type="WorkflowClosed", message="it has ended")
    run.apply(events.ExternalFailed(request=run.instance.sequence, failure=closed))


def called_back(run: Run) -> None:
    approve, again = list(run.instance.callbacks.values())
    run.complete(approve.command.token)
    run.apply(events.ActivityCompleted(activity=approve.command.sequence, result=payload(True)))
    run.fire()
    run.fulfil("paid", 7)
    failure = failures.Failure(type="Refused", message="no")
    run.apply(events.ActivityFailed(activity=again.command.sequence, failure=failure))


def gives_calls_up(run: Run) -> None:
    run.complete("first")
    run.fail("wait", "stopped", type="CancelledError")
    run.complete("abandon")
    run.complete("last")


def saga(run: Run) -> None:
    run.complete("flight")
    run.complete("hotel")
    run.fail("pay", "no money")
    run.cancel("too late")
    run.complete("cancel hotel 1")
    run.fire()
    run.fail("cancel hotel 2", "closed")
    run.complete("cancel flight")


def surrounded(run: Run) -> None:
    run.complete("a")


STORIES: dict[str, tuple[Callable[[Run], None], tuple[Any, ...]]] = {
    "order": (order, (7,)),
    "gives_calls_up": (gives_calls_up, ()),
    "called_back": (called_back, ()),
    "limits": (limits, ()),
    "race": (race, ()),
    "groups": (groups, ()),
    "cancelled": (cancelled, ()),
    "fails": (fails, ()),
    "continues": (continues, (1,)),
    "children": (children, ()),
    "gives_children_up": (gives_children_up, ()),
    "tells_others": (tells_others, ()),
    "handles": (handles, ()),
    "updated": (updated, ()),
    "update_cut_short": (update_cut_short, ()),
    "patched": (patched, ()),
    "paused": (paused, ()),
    "reset": (reset, ()),
    "batch": (batch, ()),
    "until": (until, ()),
    "saga": (saga, ()),
    "surrounded": (surrounded, ("a",)),
}
BEGINNINGS: dict[str, dict[str, Any]] = {
    "surrounded": {"headers": payload({"language": "de", "actor": 7, "trace": {"traceparent": "00-ab-cd-01"}})},
}
"""What RunStarted holds besides the arguments."""


def tell(name: str) -> list[Recorded]:
    """The history of that story, as this Python gives it."""
    story, arguments = STORIES[name]
    run = Run(WORKFLOWS[name], *arguments, **BEGINNINGS.get(name, {}))
    story(run)
    assert run.instance.closed, f"{name} waits at {run.instance.waiting()}"
    run.evict()
    return run.history


def write(path: Path, history: list[Recorded]) -> None:
    rows = [
        {
            "sequence": item.sequence,
            "time": item.time.isoformat(),
            "type": type(item.event).__name__,
            "schema": codec.SCHEMA,
            "data": codec.encode(item.event).decode(),
        }
        for item in history
    ]
    path.write_text(json.dumps(rows, indent=1) + "\n")


def read(path: Path) -> list[Recorded]:
    return [
        Recorded(
            row["sequence"],
            datetime.fromisoformat(row["time"]),
            codec.decode(row["type"], row["data"], row["schema"]),
        )
        for row in json.loads(path.read_text())
    ]


def recordable(event: events.Event, version: str) -> events.Event:
    """With the Python that runs, and without the paths of the machine."""
    if isinstance(event, events.RunStarted):
        return msgspec.structs.replace(event, python=version)
    if isinstance(event, events.RunFailed):
        failure = failures.Failure(type=event.failure.type, message=event.failure.message)
        return events.RunFailed(failure=failure, unhandled=event.unhandled)
    if isinstance(event, events.UpdateCompleted) and event.failure is not None:
        failure = failures.Failure(type=event.failure.type, message=event.failure.message)
        return events.UpdateCompleted(id=event.id, failure=failure)
    return event


if __name__ == "__main__":
    VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
    for story_name in STORIES:
        target = HERE / f"{story_name}-py{VERSION}.json"
        if not target.exists():
            told = tell(story_name)
            write(target, [Recorded(item.sequence, item.time, recordable(item.event, VERSION)) for item in told])
            sys.stdout.write(f"{target.name}\n")
