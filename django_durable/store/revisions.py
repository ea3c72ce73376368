"""How far a workflow has come, in one narrow row: whoever polls a status learns whether it has changed."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from django_durable.history.status import OPEN, Status
from django_durable.models import Dispatch, HistoryEvent, WorkflowRun
from django_durable.store import clock, database
from django_durable.store.snapshots import Snapshot

_DIGEST_BYTES = 16


class Revision(NamedTuple):
    """What a status depends on: while this is the same, so is the status.

    ``events``: how many there are; results, errors and attributes are written together with an event. ``owned``: a
    worker has the run in hand. The rest is what may change without one.
    """

    run_id: UUID
    status: Status
    events: int
    started_at: datetime | None
    wakeup_at: datetime | None
    owned: bool
    progress: str | None
    lingering: str | None

    @property
    def is_closed(self) -> bool:
        return self.status not in OPEN

    def etag(self, *besides: bytes) -> str:
        """A strong entity tag, in its quotes, of an answer that depends on this and on ``besides``."""
        digest = hashlib.blake2b(msgspec.json.encode(tuple(self)), digest_size=_DIGEST_BYTES)
        for one in besides:
            digest.update(len(one).to_bytes(8, "big") + one)
        return f'"{digest.hexdigest()}"'


_LATEST = f"""
SELECT run.id, run.status, run.progress, run.lingering, chain.started_at, chain.wakeup_at, chain.owner,
       (SELECT max(sequence) FROM {HistoryEvent._meta.db_table} WHERE run_id = run.id)
FROM {WorkflowRun._meta.db_table} AS run
LEFT JOIN {Dispatch._meta.db_table} AS chain ON chain.chain_id = run.chain_id AND chain.run_id = run.id
WHERE run.workflow_id = %s ORDER BY run.created_at DESC, run.id DESC LIMIT 1
"""


def of(known: Snapshot) -> Revision:
    """The revision of a run that was read together with the number of its events."""
    place = known.place
    owned = place is not None and place.owned
    return Revision(
        run_id=known.run_id,
        status=Status(known.status),
        events=known.events or 0,
        started_at=place.started_at if place is not None else None,
        wakeup_at=place.wakeup_at if place is not None and not owned else None,
        owned=owned,
        progress=known.progress,
        lingering=known.lingering,
    )


def latest(workflow_id: str) -> Revision | None:
    """The revision of the latest run of a workflow id; None if there is none. One statement, and no payload read."""
    found = database.select(_LATEST, [workflow_id])
    if not found:
        return None
    run_id, status, progress, lingering, started_at, wakeup_at, owner, events = found[0]
    return Revision(
        run_id=database.as_uuid(run_id),
        status=Status(status),
        events=events or 0,
        started_at=None if started_at is None else clock.as_moment(started_at),
        wakeup_at=None if wakeup_at is None or owner is not None else clock.as_moment(wakeup_at),
        owned=owner is not None,
        progress=progress,
        lingering=lingering,
    )
