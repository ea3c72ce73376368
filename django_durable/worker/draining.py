"""Apply inputs to owned runs, one at a time."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import Any

import msgspec

from django_durable.engine import polls
from django_durable.engine.pending import Pending
from django_durable.exceptions import PayloadUnreadable
from django_durable.history import codec, events
from django_durable.history.replies import State
from django_durable.payloads.packing import JSON
from django_durable.payloads.payload import opened
from django_durable.worker import task_rows
from django_durable.worker.drafting import Drafter
from django_durable.worker.inputs import UnreadableMessage
from django_durable.worker.ownership import Input, OwnedRun
from django_durable.worker.watchdog import Watchdog


class Drainer:
    """Drains runs in memory. Nothing it does is visible before the flush has committed."""

    def __init__(self, drafter: Drafter, watchdog: Watchdog) -> None:
        self._drafter = drafter
        self._watchdog = watchdog

    def drain(self, run: OwnedRun, now: datetime) -> None:
        """Apply the run's next input. Raises whatever the engine raises: the run is parked then."""
        following = run.inputs.popleft()
        if isinstance(following.event, UnreadableMessage):
            raise codec.UnreadableEvent(f"A message for this run cannot be read. {following.event.error}")
        run.draft.applied.append(following)
        if isinstance(following.event, events.ActivityCompleted) and following.event.result.format != JSON:
            following = _opened(following, following.event)
        if isinstance(following.event, events.UpdateAccepted) and self._refuse(run, following.event):
            return
        if not run.instance.accepts(following.event):
            return  # overtaken by what came before it: consumed without an event
        with self._watchdog.watching(run):
            pending = run.instance.activities.get(getattr(following.event, "activity", 0))
            event = polls.judge(pending, following.event, following.looks, now)
            drain = run.instance.apply(event, now) if not isinstance(event, polls.Again) else None
        if drain is not None:
            self._drafter.record(run, drain)
        elif pending is not None and isinstance(event, polls.Again):
            self._look_again(run, pending, event.delay, looks=following.looks + 1)

    def _look_again(self, run: OwnedRun, pending: Pending, delay: timedelta, *, looks: int) -> None:
        """What a look has found did not do: its outcome is consumed without an event, and the next one is due."""
        job = self._drafter.new_job(run, pending.command, pending.scheduled_at)
        job.looks = looks
        run.draft.spilled.append(task_rows.unstarted(job, run.claimed)._replace(delay=delay))

    def _refuse(self, run: OwnedRun, update: events.UpdateAccepted) -> bool:
        """Whether the workflow refuses an update; then only its reply is written."""
        with self._watchdog.watching(run):
            refusal = run.instance.refusal(update)
        run.stale = run.stale or run.instance.tainted
        if refusal is None:
            return False
        self._drafter.reply(run, update.id, State.REJECTED, failure=refusal)
        return True

    def leave_unhandled(self, run: OwnedRun) -> None:
        """Consume the messages behind the one that has ended the run: its code will never see them.

        Without this the end would find them in its way again and again. Only for a run whose inputs are in the order
        of a second try: a message that could have been applied before the end was.
        """
        late = [one for one in run.inputs if one.message is not None]
        if not late or run.draft.ending is None or run.draft.ending.follows is not None:
            return
        run.inputs = deque(one for one in run.inputs if one.message is None)
        run.draft.applied += late
        names = tuple(one.event.name for one in late if isinstance(one.event, events.SignalReceived))
        row = run.draft.events.pop()
        event: Any = codec.decode(row.type, row.data, row.schema)
        event = msgspec.structs.replace(event, unhandled=(*event.unhandled, *names))
        run.draft.add(row.run_id, row.sequence, row.time, event)


def _opened(one: Input, event: events.ActivityCompleted) -> Input:
    """An atomic activity's result comes from its outcome's row as it stands there."""
    try:
        result = opened(event.result, what=f"The result of activity {event.activity}")
    except PayloadUnreadable as error:
        raise codec.UnreadableEvent(str(error)) from error
    return one._replace(event=msgspec.structs.replace(event, result=result))
