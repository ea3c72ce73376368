"""What runs that are gone have left: their events, and the values that a codec keeps elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec

from django_durable.exceptions import DurableError, PayloadUnreadable
from django_durable.history import codec
from django_durable.models import ActivityOutcome, HistoryEvent, PrunedRun, Update, WorkflowRun
from django_durable.payloads import payload, sealing
from django_durable.payloads.payload import Payload
from django_durable.store import database, runs

logger = logging.getLogger("django_durable")

RUNS = 500  # cleared at a time
EVENTS = 5_000

_EVENTS = HistoryEvent._meta.db_table
_RUNS = WorkflowRun._meta.db_table
_TABLE = PrunedRun._meta.db_table
_lists: msgspec.json.Decoder[list[str]] = msgspec.json.Decoder(list[str])


class Slice(NamedTuple):
    """The events of a run that go next: those behind ``keep``."""

    run_id: UUID
    keep: int
    payloads: str | None


def leave(chain_ids: Sequence[UUID]) -> None:
    """Note what the runs of these chains leave, in the transaction in which their rows go."""
    elsewhere = _kept_elsewhere(chain_ids)
    _leave("chain_id", chain_ids)
    for run_id, payloads in elsewhere.items():
        PrunedRun.objects.using(database.alias()).filter(pk=run_id).update(payloads=payloads)


def leave_runs(run_ids: Sequence[UUID]) -> None:
    """The same of single runs, of which a codec keeps nothing elsewhere."""
    _leave("id", run_ids)


def _leave(column: str, ids: Sequence[UUID]) -> None:
    places, params = database.keys(ids)
    with database.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {_TABLE} (run_id, events) "
            f"SELECT id, COALESCE((SELECT max(sequence) FROM {_EVENTS} WHERE run_id = run.id), 0) "
            f"FROM {_RUNS} AS run WHERE {column} IN ({places})",
            params,
        )


def next_slices() -> list[Slice]:
    """What may go next: many short histories, or a part of a long one. Empty: nothing is left."""
    rows = PrunedRun.objects.using(database.alias()).order_by("pk").values_list("pk", "events", "payloads")[:RUNS]
    slices: list[Slice] = []
    total = 0
    for run_id, events, payloads in rows:
        if total + events > EVENTS and slices:
            break
        slices.append(Slice(run_id, max(0, events - EVENTS), payloads))
        total += events
    return slices


def clear(slices: Sequence[Slice]) -> int:
    """Delete these events, and what lies elsewhere of them first; returns how many of the slices were to be had.

    Nothing refers to them any more, so it does no harm if only a part of that is done: it is done again.
    """
    for one in slices:
        _discard(one)
    with database.sweeping():
        held = PrunedRun.objects.using(database.alias()).filter(pk__in=[one.run_id for one in slices]).order_by("pk")
        had = set(held.select_for_update(skip_locked=True).values_list("pk", flat=True))
        mine = [one for one in slices if one.run_id in had]
        for one in mine:
            if one.keep:
                _delete_behind(one)
        _delete_whole([one.run_id for one in mine if not one.keep])
    return len(mine)


def _delete_behind(one: Slice) -> None:
    rows = HistoryEvent.objects.using(database.alias()).filter(run_id=one.run_id, sequence__gt=one.keep)
    rows._raw_delete(database.alias())
    PrunedRun.objects.using(database.alias()).filter(pk=one.run_id).update(events=one.keep)


def _delete_whole(run_ids: Sequence[UUID]) -> None:
    for model in (HistoryEvent, PrunedRun):
        model._default_manager.using(database.alias()).filter(run_id__in=run_ids)._raw_delete(database.alias())


# Values that a codec keeps elsewhere


def _kept_elsewhere(chain_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Of rows that are about to go the stored payloads that a codec keeps elsewhere, as JSON, by run.

    Those that are a chain's are noted with its first run.
    """
    if not sealing.current().offloading:
        return {}
    found: dict[UUID, list[str]] = {}
    columns = runs.rows().filter(chain_id__in=chain_ids).values_list("pk", "input", "result", "headers")
    _note(found, ((run_id, texts) for run_id, *texts in columns))
    for model in (ActivityOutcome, Update):  # the first run of a chain has its id
        rows = model._default_manager.using(database.alias()).filter(chain_id__in=chain_ids)
        _note(found, ((chain, [text]) for chain, text in rows.values_list("chain_id", "result")))
    return {run_id: msgspec.json.encode(texts).decode() for run_id, texts in found.items()}


def _note(found: dict[UUID, list[str]], rows: Iterable[tuple[UUID, Sequence[str | None]]]) -> None:
    for run_id, texts in rows:
        kept = [text for text in texts if text and payload.is_offloaded(payload.load(text))]
        if kept:
            found.setdefault(run_id, []).extend(kept)


def _discard(one: Slice) -> None:
    if one.payloads is not None:
        for text in _lists.decode(one.payloads):
            _forget(payload.load(text), one.run_id)
    if sealing.current().offloading:
        for value in _offloaded_in(one):
            _forget(value, one.run_id)


def _offloaded_in(one: Slice) -> Iterator[Payload]:
    rows = HistoryEvent.objects.using(database.alias()).filter(run_id=one.run_id, sequence__gt=one.keep)
    for kind, data, schema in rows.order_by("sequence").values_list("type", "data", "schema"):
        try:
            yield from codec.offloaded(kind, data, schema)
        except DurableError as error:
            logger.warning("What an event of the pruned run %s keeps elsewhere is left there: %s", one.run_id, error)


def _forget(value: Payload, run_id: UUID) -> None:
    try:
        payload.discard(value)
    except PayloadUnreadable as error:
        logger.warning("What a value of the pruned run %s keeps elsewhere is left there: %s", run_id, error)
