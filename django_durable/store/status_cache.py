"""Statuses in a cache of Django's, for whoever polls: written when runs change, never older than a few seconds.

Two entries for a workflow id, one of its open run and one of its run that has ended. Of both the later run counts, and
of one run its end: so nobody who writes late can make a run that has ended look open. A third tells whoever has the
status already how far the workflow had come; it counts only while there is neither of them. Every entry expires when it
is as old as may be, counted from when the database was read; so nothing depends on any write, on its order, or on the
cache being there. Inside a transaction, and in tests that have an environment, the cache is left alone.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import msgspec
from django.core.cache import BaseCache, caches

from django_durable import conf
from django_durable.models import WorkflowRun
from django_durable.store import database, snapshots
from django_durable.store.revisions import Revision
from django_durable.store.snapshots import Snapshot

logger = logging.getLogger("django_durable")

SECONDS = 5
MAX_BYTES = 64 * 1024
REST_SECONDS = 5.0  # for which a cache that has failed is left alone: whoever polls should not wait for it
TOO_LARGE = b""  # in the place of a run that has ended: it has, and how is in the database

T = TypeVar("T")
Sink = Callable[[Collection[UUID]], None]

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Snapshot)
_revisions = msgspec.msgpack.Decoder(Revision)
_deferred = threading.local()
_left_alone = False
_rests_until = 0.0


class _Keys(NamedTuple):
    open: str
    ended: str
    revision: str


class Known(NamedTuple):
    """What the cache knows of a workflow id: its latest run, or else how far it had come, or nothing."""

    snapshot: Snapshot | None = None
    revision: Revision | None = None


def recall(workflow_id: str) -> Snapshot | None:
    """The latest run of a workflow id as the cache knows it; None: ask the database."""
    return look_up(workflow_id).snapshot


def look_up(workflow_id: str) -> Known:
    """All that the cache knows; nothing: ask the database."""
    if not _may_read():
        return Known()
    keys = _keys(workflow_id)
    found: dict[str, Any] = _trying(lambda cache: cache.get_many(keys)) or {}
    if found.get(keys.ended) == TOO_LARGE:
        return Known()
    open_, ended = (_decoded(_decoder, found.get(key)) for key in (keys.open, keys.ended))
    snapshot = _later(open_, ended)
    return Known(snapshot) if snapshot else Known(revision=_decoded(_revisions, found.get(keys.revision)))


def remember(snapshot: Snapshot, *, since: float) -> None:
    """Keep what a reader has found in the database, unless somebody has written there meanwhile.

    ``since``: time.monotonic() before it was read.
    """
    data = _encoder.encode(snapshot)
    seconds = _left(since)
    if _may_read() and seconds and len(data) <= _max_bytes():
        _trying(lambda cache: cache.add(_key_of(snapshot), data, seconds))


def remember_revision(workflow_id: str, revision: Revision, *, since: float) -> None:
    """Keep how far a workflow has come, as a reader has found it in the database. ``since`` as for ``remember``."""
    seconds = _left(since)
    if _may_read() and seconds:
        _trying(lambda cache: cache.add(_keys(workflow_id).revision, _encoder.encode(revision), seconds))


def changed(run_ids: Collection[UUID]) -> None:
    """After the commit of the current transaction, write these runs to the cache, or have them written."""
    if run_ids and _is_configured():
        database.on_commit(partial(_tell, list(run_ids)))


def started(runs: Mapping[str, UUID]) -> None:
    """After the commit of the current transaction, forget what the cache knows of earlier runs of these ids."""
    if not runs or not _is_configured():
        return
    if _sink() is not None:
        changed(list(runs.values()))
        return
    keys = [key for workflow_id in runs for key in _keys(workflow_id)]
    database.on_commit(partial(_trying, lambda cache: cache.delete_many(keys)))


def write(run_ids: Sequence[UUID]) -> None:
    """Read these runs and write them to the cache. One that has ended is left out where a later one is open."""
    since = time.monotonic()
    found = snapshots.read(run_ids)
    followed = _followed([one.workflow_id for one in found if not one.is_open])
    entries: dict[str, bytes] = {}
    outdated: list[str] = []
    for one in sorted(found, key=lambda one: one.order):
        if not one.is_open and one.workflow_id in followed:
            continue
        data = _encoder.encode(one)
        fits = len(data) <= _max_bytes()
        if fits or not one.is_open:
            entries[_key_of(one)] = data if fits else TOO_LARGE
        if not fits or not one.is_open:
            outdated.append(_keys(one.workflow_id).open)
    seconds = _left(since)
    if seconds:
        _trying(lambda cache: cache.set_many(entries, seconds))
    if outdated:
        _trying(lambda cache: cache.delete_many([key for key in outdated if key not in entries]))


@contextmanager
def deferring(sink: Sink) -> Iterator[None]:
    """Inside the block this thread writes nothing itself: ``sink`` is told the runs that have changed."""
    _deferred.sink = sink
    try:
        yield
    finally:
        _deferred.sink = None


@contextmanager
def leaving_alone() -> Iterator[None]:
    """Inside the block, a test's, statuses come from the database only."""
    global _left_alone
    before, _left_alone = _left_alone, True
    try:
        yield
    finally:
        _left_alone = before


def is_configured() -> bool:
    """Whether the project has a cache for statuses."""
    return conf.current().STATUS_CACHE is not None


def _is_configured() -> bool:
    return is_configured() and not _left_alone


def _may_read() -> bool:
    return _is_configured() and not database.in_transaction() and not database.in_tests_transaction()


def _options() -> Mapping[str, Any]:
    return conf.current().STATUS_CACHE or {}


def _max_bytes() -> int:
    return int(_options().get("MAX_BYTES", MAX_BYTES))


def _left(since: float) -> int:
    """For how many seconds more an entry may be read that was true at ``since``: whole ones, as memcached wants."""
    return max(0, int(_options().get("SECONDS", SECONDS) - (time.monotonic() - since)))


def _keys(workflow_id: str) -> _Keys:
    """Of any length and with any characters, which not every cache would take."""
    name = hashlib.blake2b(f"{database.alias()}\0{workflow_id}".encode(errors="surrogatepass"), digest_size=20)
    return _Keys(*(f"durable-status-{kind}-{name.hexdigest()}" for kind in _Keys._fields))


def _key_of(snapshot: Snapshot) -> str:
    keys = _keys(snapshot.workflow_id)
    return keys.open if snapshot.is_open else keys.ended


def _later(open_: Snapshot | None, ended: Snapshot | None) -> Snapshot | None:
    if open_ is None or ended is None:
        return open_ or ended
    return open_ if open_.order > ended.order else ended


def _decoded(decoder: msgspec.msgpack.Decoder[T], data: Any) -> T | None:
    """None also for what another release has written in another shape."""
    try:
        return decoder.decode(data) if data else None
    except (msgspec.DecodeError, TypeError):
        return None


def _followed(workflow_ids: Collection[str]) -> set[str]:
    if not workflow_ids:
        return set()
    open_ = WorkflowRun.objects.using(database.alias()).filter(open_workflow_id__in=workflow_ids)
    return set(open_.values_list("workflow_id", flat=True))


def _sink() -> Sink | None:
    """Who writes in the place of this thread."""
    sink: Sink | None = getattr(_deferred, "sink", None)
    return sink


def _tell(run_ids: Sequence[UUID]) -> None:
    sink = _sink()
    if sink is not None:
        sink(run_ids)
    elif not database.in_tests_transaction():
        write(run_ids)


def _trying(use: Callable[[BaseCache], Any]) -> Any:
    """What ``use`` gives; None if the cache fails or has failed just now: nothing depends on it."""
    global _rests_until
    if time.monotonic() < _rests_until:
        return None
    try:
        return use(caches[_options().get("ALIAS", "default")])
    except Exception as error:  # of whatever client
        _rests_until = time.monotonic() + REST_SECONDS
        logger.warning("The cache of statuses failed and is left alone for %g s: %s", REST_SECONDS, error)
        return None
