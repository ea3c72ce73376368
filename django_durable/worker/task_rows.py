"""Activities as task rows: how an attempt becomes one, and how its options are kept in it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from django_durable.definitions import stored_retry
from django_durable.definitions.activity import TIMEOUTS, ActivityCancellation, ActivityDefinition, Executor
from django_durable.definitions.registry import registry
from django_durable.engine import commands
from django_durable.payloads import payload
from django_durable.store import tasks
from django_durable.store.claims import Claimed
from django_durable.worker.jobs import Job

CALLBACK = "callback"  # in the place of an activity's options


class StoredOptions(stored_retry.StoredRetry, frozen=True, kw_only=True, omit_defaults=True):
    """What a call changed of its activity's options; exception classes are kept by name."""

    name: str
    looks: int = 0
    start_to_close: float | None = None
    schedule_to_start: float | None = None
    schedule_to_close: float | None = None
    heartbeat: float | None = None
    cancellation: ActivityCancellation = "try"
    atomic: bool = False
    at_most_once: bool = False
    executor: Executor | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(StoredOptions)


def dump_options(definition: ActivityDefinition[Any, Any], *, looks: int = 0) -> str:
    """The options that differ from the registered definition's, or "" if none does. ``looks``: of ``ctx.poll()``."""
    options = definition.options
    if not looks and definition.name == definition.registered_name and definition.declared_options == options:
        return ""
    limits: dict[str, Any] = {name: _seconds(getattr(options, name)) for name in TIMEOUTS}
    stored = StoredOptions(
        name=definition.name,
        looks=looks,
        **limits,
        cancellation=options.cancellation,
        atomic=options.atomic,
        at_most_once=options.at_most_once,
        executor=options.executor,
        **stored_retry.fields_of(options.retry),
    )
    return _encoder.encode(stored).decode()


def load_options(name: str, text: str) -> ActivityDefinition[Any, Any]:
    """The registered definition with these options. Raises ``UnknownDefinition``."""
    definition = registry.activity(name)
    if not text:
        return definition
    stored = _decoder.decode(text)
    return definition.using(
        name=stored.name,
        retry=stored.policy(when=definition.options.retry.when),
        start_to_close=_duration(stored.start_to_close),
        schedule_to_start=_duration(stored.schedule_to_start),
        schedule_to_close=_duration(stored.schedule_to_close),
        heartbeat=_duration(stored.heartbeat),
        cancellation=stored.cancellation,
        atomic=stored.atomic,
        at_most_once=stored.at_most_once,
        executor=stored.executor,
    )


def _seconds(limit: timedelta | None) -> float | None:
    return None if limit is None else limit.total_seconds()


def _duration(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def callback_of(
    command: commands.OpenCallback, *, chain_id: UUID, run_id: UUID, workflow_id: str, queue: str
) -> tasks.NewTask:
    """The row by which a callback is found until it is fulfilled."""
    return tasks.NewTask(
        chain_id=chain_id,
        key=command.key,
        run_id=run_id,
        scheduled=command.sequence,
        workflow_id=workflow_id,
        name=command.name,
        queue=queue,
        priority=0,
        input=payload.dump(payload.NULL),
        options=CALLBACK,
        start_to_close=command.timeout,
        attempt=1,
        worker=tasks.OUTSIDE,
        attempt_left=command.timeout,
        heartbeat=command.heartbeat,
        external=True,
    )


def task_of(
    job: Job,
    run: Claimed,
    *,
    delay: timedelta = timedelta(0),
    failure: str | None = None,
    in_place: bool = False,
    start_before: datetime | None = None,
) -> tasks.NewTask:
    """The task row for another attempt of ``job``, or, ``in_place``, for this very one that goes on here.

    Where it says nothing else, it stands in the same line as its ``run``, and under the same key.
    ``start_before``: when its schedule_to_start passes, if nobody has begun it yet.
    """
    options = job.definition.options
    details = job.details or job.last_details
    return tasks.NewTask(
        chain_id=job.chain_id,
        key=job.key,
        run_id=job.run_id,
        scheduled=job.sequence,
        workflow_id=job.workflow_id,
        name=job.definition.registered_name,
        queue=options.queue or run.queue,
        priority=options.priority,
        partition_key=options.partition_key or run.partition_key,
        input=payload.dump(job.input),
        options=dump_options(job.definition, looks=job.looks),
        start_to_close=options.start_to_close,
        attempt=job.attempt,
        interruptions=job.interruptions,
        delay=delay,
        failure=failure,
        worker=job.worker if in_place else None,
        attempt_left=job.attempt_left if in_place else None,
        start_before=start_before,
        expires_at=job.expires_at,
        heartbeat=options.heartbeat,
        heartbeat_details=payload.dump(details) if details is not None else None,
        headers=payload.dump(job.headers) if job.headers is not None else None,
    )


def unstarted(job: Job, run: Claimed, *, scheduled_at: datetime | None = None, interruptions: int = 0) -> tasks.NewTask:
    """The task row of an activity that some worker is to execute; each interruption was one attempt.

    ``scheduled_at``: since when it waits for its first one.
    """
    job.attempt = job.interruptions = interruptions
    limit = job.definition.options.schedule_to_start
    start_before = None if limit is None or scheduled_at is None else scheduled_at + limit
    return task_of(job, run, start_before=start_before)
