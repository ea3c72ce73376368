"""Chains, workers and writes for the tests of the store: rows as the client and the worker would make them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.apps import apps

from django_durable.history import events, messages
from django_durable.history.status import Status
from django_durable.models import Dispatch, Gate, Worker, WorkerFence, WorkflowRun
from django_durable.payloads import codec, payload
from django_durable.store import (
    claims,
    clock,
    database,
    dispatch,
    flush,
    history,
    identifiers,
    inbox,
    leases,
    levels,
    runs,
    starts,
    tasks,
)

DEFINITION = "tests.flow"
RESULT = payload.dump(payload.json_payload(b'"done"'))


def start(
    workflow_id: str | None = None,
    *,
    queue: str = "default",
    priority: int = 0,
    definition: str = DEFINITION,
    value: Any = None,
    **changes: Any,
) -> UUID:
    """Start a run, due now unless ``changes`` to its dispatch row say otherwise; returns its chain's id."""
    run_id = identifiers.uuid7()
    started = events.RunStarted(input=codec.encode(value, what="The input"), seed=1, python="3.12")
    new = starts.NewRun(
        run_id, workflow_id or str(run_id), definition, "", "code", definition, queue, priority, started
    )
    with database.writing():
        assert starts.insert(new)
    if changes:
        dispatch.rows().filter(pk=run_id).update(**changes)
    return run_id


def sleeping(**changes: Any) -> UUID:
    """A chain that nothing but a message will wake."""
    return start(**{"wakeup_at": None, **changes})


def worker(name: str = "one") -> int:
    """A registered worker whose lease has just begun."""
    return leases.register(name, queues=["default"], definitions=[DEFINITION], concurrency=1, release="tests")


def expire(*ids: int) -> None:
    """Let the leases of these workers run out."""
    Worker.objects.filter(pk__in=ids).update(expires_at=clock.read() - timedelta(seconds=60))


def die(*ids: int) -> None:
    """Declare these workers dead, as another worker would."""
    expire(*ids)
    witness = worker("witness")
    assert set(ids) <= set(leases.declare_dead(by=witness))
    Worker.objects.filter(pk=witness).delete()


def claim(owner: int, *, limit: int = 100, queue: str = "default", suspects: bool = False) -> list[claims.Claimed]:
    """Claim what is due, the highest priority first, in a transaction of its own."""
    claimed: list[claims.Claimed] = []
    with database.writing():
        for level in levels.probe([queue])[0]:
            if left := limit - len(claimed):
                claimed += claims.claim(owner, level, definitions=[DEFINITION], limit=left, suspects=suspects)
    return claimed


def owned(owner: int, **options: Any) -> claims.Claimed:
    """A new chain that ``owner`` has claimed."""
    chain = start(**options)
    mine = [one for one in claim(owner, queue=options.get("queue", "default")) if one.chain_id == chain]
    assert len(mine) == 1
    return mine[0]


def row(chain: UUID) -> Dispatch:
    return Dispatch.objects.get(pk=chain)


def run_of(chain: UUID) -> WorkflowRun:
    return WorkflowRun.objects.get(chain_id=chain)


def signal(name: str = "ping", value: Any = None) -> messages.Signal:
    return messages.Signal(name=name, payload=codec.encode(value, what="The signal"))


def send(chain: UUID, name: str = "ping") -> bool:
    """Send a signal in a transaction of its own, without the hint that follows."""
    with database.writing():
        return inbox.send(chain, signal(name))


def waiting(chain: UUID) -> list[str]:
    """The names of the signals that wait for a chain, in order."""
    return [one.message.name for one in inbox.read([chain])[chain] if isinstance(one.message, messages.Signal)]


def message_ids(chain: UUID) -> tuple[int, ...]:
    return tuple(one.id for one in inbox.read([chain])[chain])


def event(run_id: UUID, sequence: int, kind: events.Event | None = None) -> history.Row:
    return history.Row.of(run_id, sequence, clock.read(), kind or events.TimerStarted(duration=1))


def history_of(run_id: UUID) -> list[str]:
    """The types of a run's events, in order."""
    return [type(recorded.event).__name__ for recorded in history.read([run_id])[run_id]]


def write(claimed: claims.Claimed, *, events: int = 1, ends: bool = False, **more: Any) -> flush.RunWrite:
    """What a run's owner wants written: ``events`` new events after the first, and perhaps its end."""
    places = range(2, 2 + events)
    ending = runs.Ending(claimed.chain_id, claimed.run_id, Status.COMPLETED, result=RESULT) if ends else None
    return flush.RunWrite(
        chain_id=claimed.chain_id,
        run_id=claimed.run_id,
        epoch=claimed.epoch,
        events=tuple(event(claimed.run_id, place) for place in places),
        ending=ending,
        **more,
    )


def end(owner: int, claimed: claims.Claimed) -> None:
    """End a chain as its owner does."""
    assert verdicts(flush.flush(owner, [write(claimed, ends=True)])) == ["written"]


def verdicts(result: flush.Result) -> list[str]:
    """What became of the parts of a flush, in their order."""
    return [verdict.value for verdict in result.verdicts.values()]


def task(claimed: claims.Claimed, key: str = "a", **changes: Any) -> tasks.NewTask:
    """An activity of a claimed run as a task row that is due now."""
    values: dict[str, Any] = {
        "chain_id": claimed.chain_id,
        "key": key,
        "run_id": claimed.run_id,
        "scheduled": 2,
        "workflow_id": "w",
        "name": "tests.activity",
        "queue": "default",
        "priority": 0,
        "input": "[]",
        "options": "{}",
        "start_to_close": timedelta(seconds=60),
    }
    return tasks.NewTask(**{**values, **changes})


def held(holder: int, claimed: claims.Claimed, key: str = "a", **changes: Any) -> tasks.Held:
    """A task of a claimed run that ``holder`` executes."""
    with database.writing():
        tasks.insert([task(claimed, key, **changes)])
    taken = claim_tasks(holder)
    assert [one.key for one in taken] == [key]
    return taken[0]


def claim_tasks(holder: int, *, limit: int = 100) -> list[tasks.Held]:
    """Claim tasks that are due, the highest priority first, in a transaction of its own."""
    claimed: list[tasks.Held] = []
    with database.writing():
        for level in levels.probe(["default"])[1]:
            if left := limit - len(claimed):
                found = tasks.claim(holder, level, names=["tests.activity"], limit=left)
                claimed += [one.held for one in found]
    return claimed


def everything_stored() -> dict[str, int]:
    """How many rows each of our tables holds, the empty ones left out, and those that hold nothing but locks."""
    models = [model for model in our_models() if model not in (Gate, WorkerFence)]
    counts = {model._meta.model_name or "": model._default_manager.count() for model in models}
    return {name: count for name, count in counts.items() if count}


def our_models() -> Iterable[Any]:
    return apps.get_app_config("durable").get_models()
