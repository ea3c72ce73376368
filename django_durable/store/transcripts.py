"""Reading runs with their events as they are stored, many of them, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from django_durable.history.transcript import EventLine, RunLine, Transcript
from django_durable.models import HistoryEvent, WorkflowRun
from django_durable.querysets import RunQuerySet
from django_durable.store import clock, database

RUNS = 200  # read at a time
EVENTS = 2_000


def of(runs: RunQuerySet) -> Iterator[Transcript]:
    """The runs of ``runs`` in the order of their start, each with its events. Nothing is locked, nothing decoded."""
    for run in _each(runs):
        yield Transcript(line_of(run), list(events_of(run.pk)))


def line_of(run: WorkflowRun) -> RunLine:
    return RunLine(
        workflow_id=run.workflow_id,
        run_id=run.pk,
        chain_id=run.chain_id,
        name=run.name,
        version=run.version,
        fingerprint=run.fingerprint,
        queue=run.queue,
        attempt=run.attempt,
        status=run.status,
        continued_from=run.continued_from,
        parent_run_id=run.parent_run_id,
        parent_chain_id=run.parent_chain_id,
    )


def _each(runs: RunQuerySet) -> Iterator[WorkflowRun]:
    """By key, not by a cursor of the server, which poolers between transactions would lose."""
    last: UUID | None = None
    while True:
        following = runs.order_by("pk") if last is None else runs.filter(pk__gt=last).order_by("pk")
        found = list(following.defer("input", "result", "failure")[:RUNS])
        yield from found
        if len(found) < RUNS:
            return
        last = found[-1].pk


def events_of(run_id: UUID) -> Iterator[EventLine]:
    last = 0
    while True:
        rows = HistoryEvent.objects.using(database.alias()).filter(run_id=run_id, sequence__gt=last)
        found = list(rows.order_by("sequence").values_list("sequence", "type", "schema", "time", "data")[:EVENTS])
        for sequence, kind, schema, time, data in found:
            yield EventLine(sequence=sequence, type=kind, schema=schema, time=clock.as_moment(time), data=data)
        if len(found) < EVENTS:
            return
        last = found[-1][0]


def latest_of_each(runs: RunQuerySet, count: int) -> Iterator[UUID]:
    """The ids of the latest ``count`` runs of each workflow and version."""
    for name, version in runs.order_by("name", "version").values_list("name", "version").distinct():
        latest = runs.filter(name=name, version=version).order_by("-pk")
        yield from latest.values_list("pk", flat=True)[:count]
