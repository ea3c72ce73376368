"""Everything that a run's status is made of, as it is stored: read for many runs at once, and kept in a cache.

Payloads stay as they are in the database, encrypted if they are so there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from django.db.models import OuterRef, Subquery

from django_durable.history.status import OPEN
from django_durable.models import Dispatch, HistoryEvent, WorkflowRun
from django_durable.querysets import RunQuerySet
from django_durable.store import attributes, database, dispatch


class Place(msgspec.Struct, frozen=True, array_like=True):
    """What the dispatch row of an open run says."""

    started_at: datetime | None
    wakeup_at: datetime | None
    owned: bool


class Snapshot(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A run at one moment. Fields are named as its columns are."""

    run_id: UUID
    chain_id: UUID
    workflow_id: str
    name: str
    version: str
    status: str
    queue: str
    created_at: datetime
    started_at: datetime | None
    closed_at: datetime | None
    progress: str | None
    failure: str | None
    blocked: str | None
    lingering: str | None
    attributes: dict[str, str]
    place: Place | None
    input: str | None = None
    result: str | None = None
    events: int | None = None  # how many there were when it was read; None: nobody has looked

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    @property
    def order(self) -> tuple[datetime, UUID]:
        """Of two runs of a workflow id the greater one is the later."""
        return self.created_at, self.run_id

    @property
    def runs(self) -> tuple[UUID, UUID]:
        """Ids by which its chain is known."""
        return self.chain_id, self.run_id


def with_events(runs: RunQuerySet) -> RunQuerySet:
    """These runs, to be read together with how many events they have."""
    events = HistoryEvent.objects.using(runs.db).filter(run_id=OuterRef("pk")).order_by("-sequence")
    return runs.annotate(events=Subquery(events.values("sequence")[:1]))


def latest(workflow_id: str) -> Snapshot | None:
    """The latest run of a workflow id."""
    run = with_events(WorkflowRun.objects.using(database.alias()).for_workflow(workflow_id)).first()
    return of(run) if run is not None else None


def of(run: WorkflowRun) -> Snapshot:
    """A run as it was just read, with what other tables say of it now."""
    return read_all([run])[0]


def read_all(runs: Sequence[WorkflowRun], *, payloads: bool = True) -> list[Snapshot]:
    """The same for many, in two statements. ``payloads`` false: without input and result, which may be deferred."""
    open_chains = [run.chain_id for run in runs if run.status in OPEN]
    places = dispatch.rows().in_bulk(open_chains) if open_chains else {}
    shown = attributes.stored([run.pk for run in runs]) if runs else {}
    return [_snapshot(run, places.get(run.chain_id), shown.get(run.pk, {}), payloads=payloads) for run in runs]


def read(run_ids: Sequence[UUID]) -> list[Snapshot]:
    """The runs of these ids; those that are gone are left out."""
    return read_all(list(with_events(WorkflowRun.objects.using(database.alias()).filter(pk__in=run_ids))))


def _snapshot(run: WorkflowRun, row: Dispatch | None, shown: Mapping[str, str], *, payloads: bool) -> Snapshot:
    is_own = row is not None and row.run_id == run.pk
    return Snapshot(
        run_id=run.pk,
        chain_id=run.chain_id,
        workflow_id=run.workflow_id,
        name=run.name,
        version=run.version,
        status=run.status,
        queue=run.queue,
        created_at=run.created_at,
        started_at=run.started_at,
        closed_at=run.closed_at,
        progress=run.progress,
        failure=run.failure,
        blocked=run.blocked,
        lingering=run.lingering,
        attributes=dict(shown),
        place=Place(row.started_at, row.wakeup_at, row.owner is not None) if is_own and row is not None else None,
        input=run.input if payloads else None,
        result=run.result if payloads else None,
        events=getattr(run, "events", None),
    )
