"""Activities as task rows: how an attempt becomes one, and how its options are kept in it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from django_durable.definitions.activity import ActivityDefinition
from django_durable.definitions.registry import registry
from django_durable.definitions.retry import Retry
from django_durable.payloads import payload
from django_durable.store import tasks
from django_durable.worker.jobs import Job


class StoredOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a call changed of its activity's options; exception classes are kept by name."""

    name: str
    start_to_close: float | None = None
    atomic: bool = False
    at_most_once: bool = False
    max_attempts: int | None = None
    initial_interval: float = 0.0
    backoff: float = 1.0
    max_interval: float = 0.0
    jitter: bool = True
    retryable: tuple[str, ...] = ()
    non_retryable: tuple[str, ...] = ()


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(StoredOptions)


def dump_options(definition: ActivityDefinition[Any, Any]) -> str:
    """The options that differ from the registered definition's, or "" if none does."""
    options = definition.options
    if definition.name == definition.registered_name and definition.declared_options == options:
        return ""
    retry = options.retry
    stored = StoredOptions(
        name=definition.name,
        start_to_close=options.start_to_close.total_seconds() if options.start_to_close else None,
        atomic=options.atomic,
        at_most_once=options.at_most_once,
        max_attempts=retry.max_attempts,
        initial_interval=retry.initial_interval.total_seconds(),
        backoff=retry.backoff,
        max_interval=retry.max_interval.total_seconds(),
        jitter=bool(retry.jitter),
        retryable=tuple(map(_name, retry.retryable)),
        non_retryable=tuple(map(_name, retry.non_retryable)),
    )
    return _encoder.encode(stored).decode()


def load_options(name: str, text: str) -> ActivityDefinition[Any, Any]:
    """The registered definition with these options. A predicate (``Retry.when``) is always the registered one.

    Raises ``UnknownDefinition``.
    """
    definition = registry.activity(name)
    if not text:
        return definition
    stored = _decoder.decode(text)
    retry = Retry(
        max_attempts=stored.max_attempts,
        initial_interval=timedelta(seconds=stored.initial_interval),
        backoff=stored.backoff,
        max_interval=timedelta(seconds=stored.max_interval),
        jitter=stored.jitter,
        retryable=stored.retryable,
        non_retryable=stored.non_retryable,
        when=definition.options.retry.when,
    )
    return definition.using(
        name=stored.name,
        retry=retry,
        start_to_close=timedelta(seconds=stored.start_to_close) if stored.start_to_close else None,
        atomic=stored.atomic,
        at_most_once=stored.at_most_once,
    )


def _name(error: type[BaseException] | str) -> str:
    return error if isinstance(error, str) else error.__name__


def task_of(
    job: Job,
    *,
    queue: str,
    delay: timedelta = timedelta(0),
    failure: str | None = None,
    in_place: bool = False,
) -> tasks.NewTask:
    """The task row for another attempt of ``job``, or, ``in_place``, for this very one that goes on here."""
    options = job.definition.options
    return tasks.NewTask(
        chain_id=job.chain_id,
        key=job.key,
        run_id=job.run_id,
        scheduled=job.sequence,
        workflow_id=job.workflow_id,
        name=job.definition.registered_name,
        queue=options.queue or queue,
        priority=options.priority,
        input=payload.dump(job.input),
        options=dump_options(job.definition),
        start_to_close=options.start_to_close,
        attempt=job.attempt,
        interruptions=job.interruptions,
        delay=delay,
        failure=failure,
        worker=job.worker if in_place else None,
    )
