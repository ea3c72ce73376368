"""New runs as their definitions' options say, ready to be inserted."""

from __future__ import annotations

import secrets
from typing import Any
from uuid import UUID

from django_durable import propagation
from django_durable.definitions import attributes, stored_retry
from django_durable.definitions.workflow import WorkflowDefinition, key_of
from django_durable.history import events
from django_durable.payloads import payload
from django_durable.payloads.payload import Payload
from django_durable.release import PYTHON
from django_durable.store import identifiers, starts


def of_call(
    definition: WorkflowDefinition[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    run_id: UUID | None = None,
    digest: str | None = None,
) -> starts.NewRun:
    """A run with these arguments, and with what surrounds its caller."""
    if not isinstance(definition, WorkflowDefinition):
        raise TypeError(
            f"A start needs a workflow, not {definition!r}: a function that is decorated with @durable.workflow, "
            "or durable.workflow_named(name)."
        )
    headers = propagation.capture(digest=digest)
    return of(definition, definition.encode_input(args, kwargs), headers=headers, run_id=run_id)


def of(
    definition: WorkflowDefinition[..., Any],
    input: Payload,
    *,
    headers: Payload | None = None,
    run_id: UUID | None = None,
) -> starts.NewRun:
    """A run with this input; its id is made here unless it is given."""
    options = definition.options
    run_id = run_id or identifiers.uuid7()
    alone = options.subject is not None and options.one_per_subject
    return starts.NewRun(
        run_id=run_id,
        workflow_id=options.workflow_id or str(run_id),
        name=definition.name,
        version=definition.version,
        fingerprint=definition.fingerprint,
        definition=definition.key,
        queue=options.queue,
        priority=options.priority,
        partition_key=options.partition_key or "",
        delay=options.start_delay or None,
        start_at=options.start_at,
        execution_timeout=options.execution_timeout,
        run_timeout=options.run_timeout,
        retry=stored_retry.dump(options.retry) if options.retry is not None else None,
        label=options.label,
        subject_type=options.subject.type if options.subject is not None else None,
        subject_id=options.subject.id if options.subject is not None else None,
        open_subject=options.subject.key if options.subject is not None and alone else None,
        open_singleton=singleton_key(definition),
        attributes=options.attributes or None,
        headers=payload.dump(headers) if headers is not None else None,
        started=events.RunStarted(
            input=input,
            seed=secrets.randbits(63),
            python=PYTHON,
            attributes=attributes.encode_all(options.attributes),
            headers=headers,
            one_per_subject=alone,
            singleton_key=options.singleton_key,
        ),
    )


def singleton_key(definition: WorkflowDefinition[..., Any]) -> str | None:
    """Under which one run may be open, whatever its workflow id; None: there is no such limit."""
    key = definition.options.singleton_key
    return None if key is None else key_of(definition.name, key)


def debounce_key(definition: WorkflowDefinition[..., Any]) -> str | None:
    """Under which starts that follow each other are one run; None: each start is its own."""
    debounce = definition.options.debounce
    return None if debounce is None else key_of(definition.name, debounce.key)
