"""The first run from end to end, and what goes in and comes out."""

from __future__ import annotations

from django_durable import durable
from tests.flows import workflows
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE


def test_a_started_workflow_runs_to_its_result(worker):
    handle = durable.start_workflow(workflows.chain, 3)
    assert handle.result(timeout=DEADLINE) == 3
    assert_invariants(handle)
