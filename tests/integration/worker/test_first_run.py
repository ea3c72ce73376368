"""The first run from end to end, and what goes in and comes out."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django_durable import durable
from tests.flows import activities, workflows
from tests.integration.worker.invariants import assert_all_invariants, assert_invariants
from tests.integration.worker.running import DEADLINE


def test_a_started_workflow_runs_to_its_result(worker):
    handle = durable.start_workflow(workflows.chain, 3)
    assert handle.result(timeout=DEADLINE) == 3
    assert_invariants(handle)


def test_values_keep_their_types_through_workflow_and_activity(worker):
    packed = datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=UTC)
    parcel = activities.Parcel(
        id=uuid.uuid4(), price=Decimal("19.90"), packed_at=packed, colour=activities.Colour.RED, labels=["ü", "\u2028"]
    )
    handle = durable.start_workflow(workflows.typed, parcel, Decimal("0.10"))
    result = handle.result(timeout=DEADLINE)
    assert result == activities.Parcel(
        id=parcel.id,
        price=Decimal("20.00"),
        packed_at=packed + timedelta(days=1),
        colour=activities.Colour.GREEN,
        labels=parcel.labels,
    )
    assert str(result.price) == "20.00"
    assert durable.get_workflow(handle.workflow_id).result() == result


def test_workflow_and_activity_see_copies_of_their_own_only(worker):
    """Also where both run in one process: otherwise a replay would see other values than the live run did."""
    result = durable.start_workflow(workflows.share).result(timeout=DEADLINE)
    assert result == {
        "own": ["workflow"],
        "returned": ["workflow", "activity", "changed"],
        "kept": ["workflow", "activity"],
    }


def test_an_activity_knows_its_run_and_its_key(worker):
    handle = durable.start_workflow(workflows.call.using(workflow_id="known"), "flows.describe", [])
    described = handle.result(timeout=DEADLINE)
    assert described["workflow_id"] == "known"
    assert described["run_id"] == str(handle.run_id)
    assert described["name"] == "flows.describe"
    assert described["attempt"] == "1"
    assert described["key"] == handle.history()[1].data["key"]


def test_workers_may_listen_to_the_database_or_poll(make_worker, configure):
    configure(TRANSPORTS=None)  # what the database offers
    make_worker()
    assert durable.start_workflow(workflows.chain, 2).result(timeout=DEADLINE) == 2


def test_everything_at_once_in_many_runs(worker):
    handles = [durable.start_workflow(workflows.everything, str(number)) for number in range(8)]
    for handle in handles:
        handle.signal(workflows.approved(handle.workflow_id))
    for number, handle in enumerate(handles):
        result = handle.result(timeout=DEADLINE)
        assert result["receipt"] == f"{number}/paid"
        assert result["word"] == handle.workflow_id
    assert_all_invariants(handles)
