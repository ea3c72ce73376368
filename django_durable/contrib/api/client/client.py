"""One method for each operation of the API, and a few that put these together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx
import msgspec
from msgspec import UNSET, UnsetType

from django_durable.contrib.api.client import models
from django_durable.contrib.api.client.sending import RETRIES, TIMEOUT, Sender, new_key, null, of

SHORTEST_WAIT = 0.1  # seconds between two waits for a result that the server cuts short


class DurableClient:
    """Talks to the API at ``base_url``. Thread-safe, as httpx is; close it, or use it in a ``with`` block.

    ``headers`` are sent with every request: how you authenticate. ``timeout``: seconds for one answer. ``retries``:
    how often a request that got no answer is sent again, if it may be: reads, and what has an idempotency key, as
    starts, signals and updates have by themselves. ``http``: an ``httpx.Client`` of your own, whose ``base_url`` is
    the API's.

    Every method raises ``ProblemError`` for what the API refuses, and httpx's own errors if there is no answer.
    """

    def __init__(
        self,
        base_url: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        http: httpx.Client | None = None,
    ) -> None:
        self._http = http or httpx.Client(base_url=base_url, headers=headers, timeout=timeout)
        self._send = Sender(self._http, retries=retries)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    # Workflows

    def start_workflow(
        self,
        workflow: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        workflow_id: str | None = None,
        on_conflict: Literal["fail", "use_existing"] | None = None,
        start_delay: float | None = None,
        label: str | None = None,
        idempotency_key: str | None = None,
    ) -> models.Run:
        """Start a workflow by its name. ``start_delay``: seconds."""
        body = {
            "workflow": workflow,
            "args": list(args),
            "kwargs": dict(kwargs or {}),
            "workflow_id": workflow_id,
            "on_conflict": on_conflict,
            "start_delay": start_delay,
            "label": label,
        }
        return self._send.post("workflows", models.Run, body, key=idempotency_key or new_key())

    def list_workflows(
        self,
        *,
        name: Sequence[str] = (),
        status: Sequence[str] = (),
        workflow_id: str | None = None,
        queue: str | None = None,
        attribute: Sequence[str] = (),
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> models.RunPage:
        """One page of runs, the latest first. Each ``attribute`` is ``name:value``."""
        return self._send.get(
            "workflows",
            models.RunPage,
            name=list(name),
            status=list(status),
            workflow_id=workflow_id,
            queue=queue,
            attribute=list(attribute),
            created_after=created_after,
            created_before=created_before,
            cursor=cursor,
            limit=limit,
        )

    def iterate_workflows(self, **filters: Any) -> Iterator[models.Overview]:
        """All runs that ``list_workflows`` would give, page by page."""
        cursor: str | None = None
        while True:
            page = self.list_workflows(**filters, cursor=cursor)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def get_status(self, workflow_id: str) -> models.WorkflowStatus:
        """How the latest run is."""
        return self._send.get(of(workflow_id, "status"), models.WorkflowStatus)

    def get_result(self, workflow_id: str, *, wait: float | None = None) -> models.WorkflowStatus:
        """Wait for the end, ``wait`` seconds or as long as the server allows; how it is then, ended or not."""
        return self._send.get(of(workflow_id, "result"), models.WorkflowStatus, wait=wait)

    def wait_for_result(self, workflow_id: str, *, timeout: float | None = None) -> models.WorkflowStatus:
        """Wait for the end for as long as it takes. Raises ``TimeoutError`` after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout if timeout is not None else None
        while True:
            left = max(0.0, deadline - time.monotonic()) if deadline is not None else None
            found = self.get_result(workflow_id, wait=left)
            if found.is_closed:
                return found
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"Workflow {workflow_id!r} had not ended after {timeout:g} s; it is {found.status}.")
            time.sleep(SHORTEST_WAIT)

    def get_history(self, workflow_id: str, *, after: int = 0, limit: int | None = None) -> models.HistoryPage:
        """Events of the latest run behind the sequence ``after``."""
        return self._send.get(of(workflow_id, "history"), models.HistoryPage, after=after, limit=limit)

    def stream_events(self, workflow_id: str, *, seconds: float | None = None) -> Iterator[models.WorkflowStatus]:
        """Each change of the status, until the workflow has ended; the stream is taken up again when it breaks off.

        ``seconds``: how long each stream lasts at most.
        """
        last_id, ended = "", False
        while not ended:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            came = False
            for line in self._send.lines(of(workflow_id, "events"), headers=headers, seconds=seconds):
                came = True
                name, _, value = line.partition(": ")
                if name == "event":
                    ended = value == "closed"
                elif name == "id":
                    last_id = value
                elif name == "data":
                    yield msgspec.json.decode(value, type=models.WorkflowStatus)
            ended = ended or not came

    # Messages

    def signal_workflow(
        self, workflow_id: str, name: str, payload: Any = None, *, idempotency_key: str | None = None
    ) -> models.Run:
        """Send a signal to an open workflow."""
        body = {"name": name, "payload": payload}
        return self._send.post(of(workflow_id, "signal"), models.Run, body, key=idempotency_key or new_key())

    def query_workflow(
        self, workflow_id: str, name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Ask a workflow, open or closed; its answer."""
        body = {"name": name, "args": list(args), "kwargs": dict(kwargs or {})}
        return self._send.post(of(workflow_id, "query"), models.Reply, body).result

    def update_workflow(
        self,
        workflow_id: str,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        wait: float | None = None,
        idempotency_key: str | None = None,
    ) -> models.UpdateReply:
        """Have an open workflow carry out an update, and wait for the reply, ``wait`` seconds or as is allowed."""
        body = {"name": name, "args": list(args), "kwargs": dict(kwargs or {}), "wait": wait}
        return self._send.post(of(workflow_id, "update"), models.UpdateReply, body, key=idempotency_key or new_key())

    # Acts

    def cancel_workflow(self, workflow_id: str, reason: str = "") -> models.Done:
        """Ask a workflow to end, so that it can clean up."""
        return self._send.post(of(workflow_id, "cancel"), models.Done, {"reason": reason})

    def terminate_workflow(self, workflow_id: str, reason: str = "") -> models.Done:
        """End a workflow at once; none of its code runs any more."""
        return self._send.post(of(workflow_id, "terminate"), models.Done, {"reason": reason})

    def pause_workflow(self, workflow_id: str, reason: str = "") -> models.Done:
        """Let a workflow rest until it is resumed."""
        return self._send.post(of(workflow_id, "pause"), models.Done, {"reason": reason})

    def resume_workflow(self, workflow_id: str) -> models.Done:
        """Let a paused workflow go on."""
        return self._send.post(of(workflow_id, "resume"), models.Done)

    def retry_workflow(self, workflow_id: str, reason: str = "") -> models.Done:
        """Let a workflow that has failed go on just before its failure; the answer names the new run."""
        return self._send.post(of(workflow_id, "retry"), models.Done, {"reason": reason})

    # Operations

    def list_schedules(self, *, after: str | None = None, limit: int | None = None) -> models.SchedulePage:
        """One page of schedules, by name."""
        return self._send.get("schedules", models.SchedulePage, after=after, limit=limit)

    def get_schedule(self, name: str) -> models.ScheduleDetails:
        """How a schedule is, and when it is next to start something."""
        return self._send.get(f"schedules/{quote(name)}/status", models.ScheduleDetails)

    def pause_schedule(self, name: str, note: str = "") -> models.ScheduleDetails:
        """Start nothing more until it is resumed."""
        return self._send.post(f"schedules/{quote(name)}/pause", models.ScheduleDetails, {"note": note})

    def resume_schedule(self, name: str, note: str = "") -> models.ScheduleDetails:
        """Go on with the next tick from now."""
        return self._send.post(f"schedules/{quote(name)}/resume", models.ScheduleDetails, {"note": note})

    def trigger_schedule(self, name: str) -> models.ScheduleDetails:
        """Start a run now."""
        return self._send.post(f"schedules/{quote(name)}/trigger", models.ScheduleDetails)

    def create_schedule(
        self,
        name: str,
        workflow: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        cron: str | None = None,
        every_seconds: float | None = None,
        time_zone: str | None = None,
        overlap: models.Overlap | None = None,
        catch_up_seconds: float | None = None,
        jitter_seconds: float | None = None,
        start_at: datetime | None = None,
        end_at: datetime | None = None,
        max_runs: int | None = None,
        label: str | None = None,
        paused: bool = False,
        note: str = "",
    ) -> models.ScheduleDetails:
        """Start a workflow again and again: ``create_schedule("nightly", "shop.report", cron="0 3 * * *")``."""
        body = {
            "name": name,
            "workflow": workflow,
            "args": list(args),
            "kwargs": dict(kwargs or {}),
            "cron": cron,
            "every_seconds": every_seconds,
            "time_zone": time_zone,
            "overlap": overlap,
            "catch_up_seconds": catch_up_seconds,
            "jitter_seconds": jitter_seconds,
            "start_at": start_at,
            "end_at": end_at,
            "max_runs": max_runs,
            "label": label,
            "paused": paused,
            "note": note,
        }
        return self._send.post("schedules", models.ScheduleDetails, body)

    def update_schedule(
        self,
        name: str,
        *,
        cron: str | None = None,
        every_seconds: float | None = None,
        time_zone: str | UnsetType | None = UNSET,
        overlap: models.Overlap | None = None,
        catch_up_seconds: float | None = None,
        jitter_seconds: float | None = None,
        start_at: datetime | UnsetType | None = UNSET,
        end_at: datetime | UnsetType | None = UNSET,
        max_runs: int | UnsetType | None = UNSET,
    ) -> models.ScheduleDetails:
        """Change when a schedule starts something; what is not given stays as it is.

        None takes ``start_at``, ``end_at`` or ``max_runs`` away, and gives it the project's ``time_zone``.
        """
        body = {
            "cron": cron,
            "every_seconds": every_seconds,
            "time_zone": null(time_zone),
            "overlap": overlap,
            "catch_up_seconds": catch_up_seconds,
            "jitter_seconds": jitter_seconds,
            "start_at": null(start_at),
            "end_at": null(end_at),
            "max_runs": null(max_runs),
        }
        return self._send.post(f"schedules/{quote(name)}/update", models.ScheduleDetails, body)

    def backfill_schedule(
        self, name: str, start: datetime, end: datetime, *, overlap: models.Overlap | None = None
    ) -> models.Backfilled:
        """Start a run for every tick from ``start`` to ``end`` that had none."""
        body = {"start": start, "end": end, "overlap": overlap}
        return self._send.post(f"schedules/{quote(name)}/backfill", models.Backfilled, body)

    def delete_schedule(self, name: str) -> models.ScheduleName:
        """Forget a schedule. Runs that it has started go on."""
        return self._send.post(f"schedules/{quote(name)}/delete", models.ScheduleName)

    def list_queues(self) -> models.QueueList:
        """What waits for workers, and for how long."""
        return self._send.get("queues", models.QueueList)

    def list_workers(self) -> models.WorkerList:
        """The workers that are alive."""
        return self._send.get("workers", models.WorkerList)

    def get_health(self) -> models.Health:
        """Whether a worker is alive to get anything done."""
        return self._send.get("health", models.Health, accept=(503,))
