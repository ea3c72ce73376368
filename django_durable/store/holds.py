"""Paused runs: held until somebody lets them go on. Messages are kept for them, and their deadlines run on.

The row's hold is the truth. An owner is told of it by a message, which means nothing once the hold is gone.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Case, F, When

from django_durable.history import events, messages
from django_durable.store import claims, clock, dispatch, history, inbox, locks, runs


class Held(Enum):
    """What became of a request."""

    DONE = "done"
    NOTHING = "nothing"  # the run is as it was wanted to be already
    BUSY = "busy"  # somebody has its row for now, or it has ended


class Fate(Enum):
    """What becomes of an owned run that was to be paused."""

    PAUSED = "paused"  # and given back
    GOING = "going"  # somebody has let it go on meanwhile
    BUSY = "busy"
    GONE = "gone"  # not the owner's any more


class _Row(NamedTuple):
    run_id: UUID
    owner: int | None
    epoch: int
    hold: str | None


_NEXT_EPOCH: Any = Case(When(epoch__gt=0, then=F("epoch") + 1), default=F("epoch"))
"""The history has grown: no instance that a worker has kept is good any more."""


def pause(chain_id: UUID, reason: str) -> Held:
    """Hold an open chain, in the caller's transaction. Its owner, if it has one, is told to give it back."""
    row = _locked(chain_id)
    if row is None:
        return Held.BUSY
    if row.hold == dispatch.PAUSED:
        return Held.NOTHING
    chain = dispatch.rows().filter(pk=chain_id)
    if row.owner is None:
        waiting = _waiting(chain_id)
        _take_pauses(waiting)  # one of those may be left that were taken back
        _note(row.run_id, events.RunPaused(reason=reason))
        chain.update(hold=dispatch.PAUSED, wakeup_at=_wakeup(waiting), epoch=_NEXT_EPOCH)
    else:
        chain.update(hold=dispatch.PAUSED)
        inbox.put(chain_id, messages.Pause(reason=reason))
    runs.set_paused(row.run_id)
    return Held.DONE


def resume(chain_id: UUID) -> Held:
    """Take the pause off an open chain, in the caller's transaction: what came or fell due meanwhile is next."""
    row = _locked(chain_id)
    if row is None:
        return Held.BUSY
    if row.hold != dispatch.PAUSED:
        return Held.NOTHING
    chain = dispatch.rows().filter(pk=chain_id)
    if row.owner is None:
        _note_pause(row.run_id, _take_pauses(_waiting(chain_id)))  # its owner may have gone without a word
        last, now = history.last(row.run_id), clock.read()
        if last.type == events.RunPaused.__name__:
            _note(row.run_id, events.RunResumed())
        delayed = last.time > now  # it is still to begin, at the time of its first event
        chain.update(
            hold=dispatch.DELAYED if delayed else None,
            wakeup_at=last.time if delayed else now,
            blocked_by=None,
            epoch=_NEXT_EPOCH,
        )
        chain.filter(deadline__lt=F("wakeup_at")).update(wakeup_at=F("deadline"))
    else:
        chain.update(hold=None)
    runs.set_going(row.run_id)
    return Held.DONE


def settle(worker: int, claimed: claims.Claimed) -> Fate:
    """Give a run back that is to be paused, in its owner's transaction, and take the messages that said so."""
    row = _locked(claimed.chain_id)
    if row is None:
        return Fate.BUSY if dispatch.existing([claimed.chain_id]) else Fate.GONE
    if (row.run_id, row.owner, row.epoch) != (claimed.run_id, worker, claimed.epoch):
        return Fate.GONE
    waiting = _waiting(claimed.chain_id)
    told = _take_pauses(waiting)
    if row.hold != dispatch.PAUSED:
        return Fate.GOING
    _note_pause(row.run_id, told)
    dispatch.rows().filter(pk=claimed.chain_id).update(owner=None, closing=False, wakeup_at=_wakeup(waiting))
    runs.set_paused(row.run_id)
    return Fate.PAUSED


def _locked(chain_id: UUID) -> _Row | None:
    """The chain's row, locked against claims and ends, not against senders. Nobody waits here."""
    found = locks.to_change(dispatch.rows().filter(pk=chain_id))
    row = found.values_list("run_id", "owner", "epoch", "hold").first()
    return _Row(*row) if row else None


def _waiting(chain_id: UUID) -> list[inbox.Waiting]:
    return inbox.read([chain_id])[chain_id]


def _wakeup(waiting: list[inbox.Waiting]) -> Any:
    """When a paused run is looked at again: at its deadline, or now, if its parent's end ends it as well."""
    ends = any(isinstance(one.message, messages.Terminate) for one in waiting)
    return clock.now() if ends else F("deadline")


def _take_pauses(waiting: list[inbox.Waiting]) -> list[messages.Pause]:
    """The messages to the owner that say so, which are consumed here."""
    inbox.consume([one.id for one in waiting if isinstance(one.message, messages.Pause)])
    return [one.message for one in waiting if isinstance(one.message, messages.Pause)]


def _note_pause(run_id: UUID, told: list[messages.Pause]) -> None:
    """Write the pause down that the owner was told of, once."""
    if told and history.last(run_id).type != events.RunPaused.__name__:
        _note(run_id, events.RunPaused(reason=told[-1].reason))


def _note(run_id: UUID, event: events.Event) -> None:
    history.append(history.after_last([(run_id, event)]))
