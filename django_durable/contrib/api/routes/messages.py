"""Messages to workflows: signals, queries and updates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpRequest
from ninja import Router, Status

from django_durable.client import WorkflowHandle, messaging, querying, updating
from django_durable.contrib.api import replays, schemas, scope, waiting
from django_durable.contrib.api.problems import Problem
from django_durable.contrib.api.routes.workflows import Key
from django_durable.definitions import update as updates
from django_durable.definitions.signal import as_message
from django_durable.definitions.update import UpdateOptions
from django_durable.exceptions import QueryTooExpensive
from django_durable.payloads import codec
from django_durable.store import runs

router = Router(tags=["messages"])


@router.post("/workflows/{path:workflow_id}/signal", response={202: schemas.Run}, operation_id="signal_workflow")
def signal(request: HttpRequest, workflow_id: str, body: schemas.SignalRequest, idempotency_key: Key = None) -> Any:
    """Send a signal to an open workflow. Sent again with the same Idempotency-Key, it arrives once."""
    handle = scope.handle(request, workflow_id, action="signal")
    message = as_message(body.name, body.payload)
    if idempotency_key is None:
        handle.signal(message)
    else:
        messaging.signal_once(workflow_id, message, run_id=handle.run_id, key=idempotency_key)
    return {"workflow_id": workflow_id, "run_id": handle.run_id}


@router.post("/workflows/{path:workflow_id}/query", response=schemas.Reply, operation_id="query_workflow")
def query(request: HttpRequest, workflow_id: str, body: schemas.QueryRequest) -> Any:
    """Ask a workflow, open or closed. Its history is replayed for it: poll status, progress or attributes instead."""
    run = scope.find(request, workflow_id, action="query")
    with replays.place():
        try:
            found = querying.query(run, body.name, tuple(body.args), body.kwargs, limits=replays.limits())
        except QueryTooExpensive as error:
            if error.limit == "events":
                raise Problem(413, "history-too-long", "The history is too long to be replayed here.") from error
            raise
    return {"result": msgspec.json.decode(codec.encode(found, what=f"The answer to {body.name!r}").data)}


@router.post(
    "/workflows/{path:workflow_id}/update",
    response={200: schemas.UpdateReply, 202: schemas.UpdateReply},
    operation_id="update_workflow",
)
async def update(
    request: HttpRequest, workflow_id: str, body: schemas.UpdateRequest, idempotency_key: Key = None
) -> Any:
    """Have an open workflow carry out an update: 200 with its reply, or 202 if there is none yet.

    Sent again with the same Idempotency-Key it is carried out once, and answered the same: so the reply is waited for.
    """
    handle = await sync_to_async(scope.handle)(request, workflow_id, action="update")
    sent = await sync_to_async(_send)(handle, body, idempotency_key)
    has_come = await waiting.through(_until_answered(sent, waiting.bounded(body.wait)))
    answer = {"workflow_id": workflow_id, "run_id": handle.run_id, "update_id": sent.update_id, "done": has_come}
    if has_come:
        answer["result"] = await sync_to_async(updating.reply)(sent, UpdateOptions())
    return Status(200 if has_come else 202, answer)


def _send(handle: WorkflowHandle[Any], body: schemas.UpdateRequest, key: str | None) -> updating.Sent:
    message = updates.as_message(body.name, tuple(body.args), body.kwargs)
    if key is None:
        return updating.send(handle.workflow_id, message, UpdateOptions(), run_id=handle.run_id)
    options = updates.changed_options(UpdateOptions(), {"update_id": key})
    place = runs.latest_place(handle.workflow_id, run_id=handle.run_id)
    if place is None:
        raise scope.gone(handle.workflow_id)
    messaging.claim_key(
        place.chain_id, message.name, messaging.digest_of("update", message.name, message.input), key=key
    )
    return updating.send(handle.workflow_id, message, options, run_id=handle.run_id)


def _until_answered(sent: updating.Sent, seconds: float) -> Iterator[float]:
    return updating.pauses(sent, updates.changed_options(UpdateOptions(), {"timeout": seconds}))
