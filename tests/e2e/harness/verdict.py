"""What must be true when everything has been survived."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django_durable.client import WorkflowHandle
from django_durable.history.status import Status
from django_durable.models import ActivityOutcome, ActivityTask, Dispatch, InboxMessage, WorkflowRun
from tests.e2e.harness import trail
from tests.e2e.harness.fleet import Fleet
from tests.e2e.harness.work import Work
from tests.flows.models import Entry
from tests.integration.worker.invariants import assert_all_invariants

SHOWN = 5  # of each kind of trouble


def check(work: Work, fleet: Fleet, *, once: bool = False, quiet: bool = True) -> dict[str, int]:
    """Raise ``AssertionError`` unless all is well; returns what was counted.

    ``once``: no process died, so that ordinary effects too must have happened exactly once. ``quiet``: no worker may
    have logged an error.
    """
    fleet.check()
    _results(work)
    assert_all_invariants(work.handles.values())
    nothing_left()
    again = _effects(work, once=once)
    if trail.is_kept():
        only_owners_wrote(fleet)
    if quiet:
        assert not fleet.troubles(), "\n".join(fleet.troubles()[:SHOWN])
    return {"runs": len(work.handles), "effects": work.expected_effects(), "ordinary again": again}


def _results(work: Work) -> None:
    wrong = {key: handle.status().status for key, handle in work.handles.items() if not _is_right(work, key, handle)}
    assert not wrong, f"{len(wrong)} runs did not complete with the right result: {list(wrong.items())[:SHOWN]}"


def _is_right(work: Work, key: str, handle: WorkflowHandle[Any]) -> bool:
    expected = [f"{key}/{step}" for step in range(work.steps[key])]
    status = handle.status()
    return status.status is Status.COMPLETED and handle.result() == expected


def _effects(work: Work, *, once: bool) -> int:
    """Every effect is there, the atomic ones exactly once; returns how many ordinary ones are there again."""
    rows = Counter(Entry.objects.filter(kind__in=("plain", "atomic")).values_list("kind", "key"))
    wanted = {
        ("atomic" if step % 2 else "plain", f"{key}/{step}")
        for key, steps in work.steps.items()
        for step in range(steps)
    }
    missing, unknown = wanted - rows.keys(), rows.keys() - wanted
    assert not missing, f"{len(missing)} effects never happened: {sorted(missing)[:SHOWN]}"
    assert not unknown, f"{len(unknown)} effects nobody asked for: {sorted(unknown)[:SHOWN]}"
    twice = {place: count for place, count in rows.items() if count > 1}
    atomic = {place: count for place, count in twice.items() if place[0] == "atomic"}
    assert not atomic, f"{len(atomic)} atomic effects happened again: {list(atomic.items())[:SHOWN]}"
    if once:
        assert not twice, f"{len(twice)} effects were executed again: {list(twice.items())[:SHOWN]}"
    return sum(count - 1 for count in twice.values())


def nothing_left() -> None:
    """Closed runs leave their history and their own row, nothing else."""
    assert not WorkflowRun.objects.open().exists(), "a run is open"
    for model in (Dispatch, InboxMessage, ActivityTask, ActivityOutcome):
        assert not model._default_manager.exists(), (
            f"{model._default_manager.count()} rows of {model.__name__} are left"
        )


def only_owners_wrote(fleet: Fleet) -> None:
    """Every history event was written by the process that owned the run at that moment, alive."""
    for worker in fleet.all:
        found = trail.strangers(worker.name, worker.pid)
        assert not found, f"{worker} wrote into runs that were not its own: {found[:SHOWN]}"
    assert trail.rewritten() == 0, "history was rewritten"
