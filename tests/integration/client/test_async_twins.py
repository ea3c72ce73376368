"""The async verbs do what their sync twins do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_durable import WorkflowCancelled, WorkflowNotFound, WorkflowTerminated, durable
from tests.flows import workflows
from tests.integration.worker.running import DEADLINE


def test_a_workflow_can_be_started_signalled_and_awaited_from_async_code(worker):
    async def talk() -> Any:
        handle = await durable.astart_workflow(workflows.approval.using(workflow_id="async"))
        await durable.asignal_workflow("async", workflows.approved, "from async")
        assert await handle.aresult(timeout=DEADLINE) == "from async"
        status = await durable.aget_workflow_status("async")
        assert status.status == (await handle.astatus()).status == "completed"
        assert (await handle.ahistory())[-1].type == "RunCompleted"
        again = await durable.aget_workflow("async")
        return await again.aresult()

    assert async_to_sync(talk)() == "from async"


def test_many_results_can_be_awaited_at_once(worker):
    async def gather() -> list[Any]:
        handles = await durable.astart_workflows([workflows.chain.call(steps) for steps in range(1, 6)])
        return await asyncio.gather(*(handle.aresult(timeout=DEADLINE) for handle in handles))

    assert async_to_sync(gather)() == [1, 2, 3, 4, 5]


def test_async_code_can_cancel_and_terminate(worker):
    async def end() -> None:
        first, second = await durable.astart_workflows([workflows.never_ends.call(), workflows.never_ends.call()])
        assert await durable.acancel_workflow(first.workflow_id, "async")
        assert await second.aterminate("async")
        with pytest.raises(WorkflowCancelled):
            await first.aresult(timeout=DEADLINE)
        with pytest.raises(WorkflowTerminated):
            await second.aresult(timeout=DEADLINE)
        assert not await second.acancel()
        assert not await durable.aterminate_workflow(first.workflow_id)
        with pytest.raises(WorkflowNotFound):
            await durable.aget_workflow("nowhere")

    async_to_sync(end)()


def test_awaiting_a_result_ends_with_a_timeout_error(worker):
    async def wait() -> None:
        handle = await durable.astart_workflow(workflows.never_ends)
        await handle.asignal(workflows.approved("unheard"))
        with pytest.raises(TimeoutError):
            await handle.aresult(timeout=0.1)

    async_to_sync(wait)()
