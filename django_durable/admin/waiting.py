"""What an open run waits for, in sentences, and who could help."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Subquery, Value
from django.utils.html import format_html
from django.utils.safestring import SafeString

from django_durable.admin import times
from django_durable.models import Dispatch, InboxMessage, Worker, WorkflowRun
from django_durable.querysets import DispatchQuerySet
from django_durable.store import clock, database, paused_workflows
from django_durable.store.dispatch import PAUSED

COUNT_LIMIT = 1_000


@dataclass(slots=True, kw_only=True)
class Waiting:
    """``says``: what is going on. ``warnings``: what keeps it from going on, for somebody to mend."""

    says: list[str | SafeString] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def with_pause(rows: DispatchQuerySet, name: str) -> DispatchQuerySet:
    """Dispatch rows of runs of this name, with the reason for which it is paused, or None, as ``paused``."""
    found = paused_workflows.rows().filter(name=Value(name)).values("reason")
    return rows.annotate(paused=Subquery(found))


def waiting_of(run: WorkflowRun, dispatch: Dispatch | None, now: datetime) -> Waiting:
    """For an open run; ``dispatch``, made ``with_pause``, is None if it has just ended."""
    waiting = Waiting()
    if dispatch is None:
        waiting.says.append("It has just ended, or goes on as another run of its chain: look again.")
        return waiting
    if dispatch.owner is not None:
        waiting.says.append(_owner(dispatch.owner))
    else:
        waiting.says.append(_paused(dispatch) if dispatch.hold == PAUSED else _wakeup(dispatch, now))
        waiting.warnings += _nobody(dispatch)
        waiting.warnings += _paused_workflow(run.name, dispatch)
    if messages := _messages(run.chain_id):
        waiting.says.append(f"Messages in its inbox, not yet in the history: {messages}.")
    if dispatch.recoveries:
        waiting.says.append(f"Times that its worker died before it made progress: {dispatch.recoveries}.")
    return waiting


def _owner(worker_id: int) -> str:
    worker = Worker.objects.using(database.alias()).filter(pk=worker_id).annotate(now=clock.now()).first()
    if worker is None or worker.dead:
        return f"Worker {worker or f'#{worker_id}'} had it and is dead: another one takes it over."
    heard = times.duration(worker.now - worker.heartbeat_at)
    return f"Worker {worker} has it; its last heartbeat was {heard} ago."


def _wakeup(dispatch: Dispatch, now: datetime) -> str | SafeString:
    if dispatch.wakeup_at is None:
        asleep = "It sleeps until a message comes: a signal, or the result of an activity."
        return f"It is held as {dispatch.hold}." if dispatch.hold else asleep
    if dispatch.wakeup_at <= now:
        since = times.duration(now - dispatch.wakeup_at)
        return f"It has been due for {since}: the next free worker of queue “{dispatch.queue}” takes it."
    sentence = (
        "It is held as {}. It is looked at again at {}, in {}, or once other code for it is deployed."
        if dispatch.hold
        else "It wakes up at {1}, in {2}, or when a message comes."
    )
    left = times.duration(dispatch.wakeup_at - now)
    return format_html(sentence, dispatch.hold, times.moment(dispatch.wakeup_at), left)


def _paused(dispatch: Dispatch) -> str | SafeString:
    rests = "It is held as paused. Messages are kept for it until somebody resumes it."
    if dispatch.deadline is None:
        return rests
    return format_html("{} Its time is up at {}.", rests, times.moment(dispatch.deadline))


def _paused_workflow(name: str, dispatch: Any) -> list[str]:
    """Why no worker takes any run of this name."""
    reason = dispatch.paused
    if reason is None:
        return []
    why = f" ({reason})" if reason else ""
    return [f"Workflow “{name}” is paused{why}: no worker takes its runs. manage.py durable_resume {name}"]


def _nobody(dispatch: Dispatch) -> list[str]:
    """Why no worker that is alive could take the run."""
    alive = Worker.objects.using(database.alias()).filter(dead=False, expires_at__gte=clock.now())
    serving = [
        names.split("\n")
        for queues, names in alive.values_list("queues", "definitions")
        if dispatch.queue in queues.split("\n")
    ]
    if not serving:
        return [
            f"No live worker serves queue “{dispatch.queue}”. "
            f"Start one: manage.py durable_worker --queues {dispatch.queue}"
        ]
    if not any(dispatch.definition in names for names in serving):
        return [f"No live worker of queue “{dispatch.queue}” has the code of “{dispatch.definition}”. Deploy it there."]
    return []


def _messages(chain_id: UUID) -> str:
    rows = InboxMessage.objects.using(database.alias()).filter(chain_id=chain_id)
    count = rows[:COUNT_LIMIT].count()
    return f"{count} or more" if count == COUNT_LIMIT else str(count or "")
