"""Shortcuts for views: a status that is cheap to poll."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from asgiref.sync import sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils.cache import get_conditional_response

from django_durable.client import WorkflowStatus, reading
from django_durable.history.status import Status
from django_durable.store import revisions, snapshots, status_cache
from django_durable.store.revisions import Revision
from django_durable.store.snapshots import Snapshot

SOONEST = 1  # seconds: between two polls while a worker has the run in hand
ASLEEP = 5  # while the run waits for something that has no time
LATEST = 30  # while it is known to sleep, or is held
_HELD = (Status.PAUSED, Status.BLOCKED)
_FORM = " ".join(field.name for field in fields(WorkflowStatus)).encode()  # another release may have more to say


def status_response(
    request: HttpRequest,
    workflow_id: str,
    *,
    extra: Mapping[str, Any] | None = None,
    internal: bool = False,
    retry_after: int | None = None,
) -> HttpResponse:
    """The status of the latest run of ``workflow_id`` as JSON; 304 without a body if the client has this one already.

    An unchanged poll costs one statement and reads no payload; with ``DURABLE["STATUS_CACHE"]`` it may cost none, and
    the answer may be a few seconds old. ``extra`` adds members of the application's own, such as the state of its
    order; a status's own win. ``internal`` adds what only staff should see, as in ``as_dict(internal=True)``.
    ``retry_after``: seconds until the next poll, instead of the ones that the run's state suggests; they are sent as
    ``Retry-After`` while the run is open.

    Whose workflow it is, is the view's to check, before. Raises ``Http404`` if there is none.
    """
    members = dict(extra or {})

    def tag(revision: Revision) -> str:
        return revision.etag(_FORM, _fixed(members), b"internal" if internal else b"")

    snapshot, revision = _known(workflow_id)
    response = get_conditional_response(request, etag=tag(revision))
    if response is None:
        snapshot = snapshot or _read(workflow_id)
        # Tag and status are of one look: at worst the tag is the older one, and the next poll brings the status again.
        revision = revisions.of(snapshot)
        response = JsonResponse({**members, **reading.status_from(snapshot).as_dict(internal=internal)})
    response["ETag"] = tag(revision)
    response["Cache-Control"] = "private, no-cache"
    if not revision.is_closed:
        response["Retry-After"] = str(_pause(revision) if retry_after is None else retry_after)
    return response


async def astatus_response(
    request: HttpRequest,
    workflow_id: str,
    *,
    extra: Mapping[str, Any] | None = None,
    internal: bool = False,
    retry_after: int | None = None,
) -> HttpResponse:
    return await sync_to_async(status_response, thread_sensitive=True)(
        request, workflow_id, extra=extra, internal=internal, retry_after=retry_after
    )


astatus_response.__doc__ = status_response.__doc__


def _known(workflow_id: str) -> tuple[Snapshot | None, Revision]:
    """How far the workflow has come, and its latest run if the cache knows it."""
    known = status_cache.look_up(workflow_id)
    if known.snapshot is not None and known.snapshot.events is not None:
        return known.snapshot, revisions.of(known.snapshot)
    if known.revision is not None:
        return None, known.revision
    since = time.monotonic()
    revision = revisions.latest(workflow_id)
    if revision is None:
        raise Http404("There is no such workflow.")
    status_cache.remember_revision(workflow_id, revision, since=since)
    return None, revision


def _read(workflow_id: str) -> Snapshot:
    """The latest run, from the database."""
    since = time.monotonic()
    snapshot = snapshots.latest(workflow_id)
    if snapshot is None:
        raise Http404("There is no such workflow.")
    status_cache.remember(snapshot, since=since)
    return snapshot


def _fixed(members: Mapping[str, Any]) -> bytes:
    """What the application adds, as bytes that are the same for the same values."""
    return DjangoJSONEncoder(sort_keys=True).encode(members).encode() if members else b""


def _pause(revision: Revision) -> int:
    """Seconds until another look may be worth it."""
    if revision.status in _HELD:
        return LATEST
    if revision.owned:
        return SOONEST
    if revision.wakeup_at is None:
        return ASLEEP
    left = (revision.wakeup_at - datetime.now(UTC)).total_seconds()
    return max(SOONEST, min(LATEST, math.ceil(left)))
