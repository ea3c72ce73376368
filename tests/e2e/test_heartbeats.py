"""What an attempt has told survives the process that it dies with."""

from __future__ import annotations

import pytest

from django_durable import durable
from tests.e2e.harness import waiting
from tests.e2e.harness.stage import staged
from tests.flows import lasting

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_the_next_attempt_knows_what_was_told_right_before_the_process_ended(fresh_url: str) -> None:
    with staged(fresh_url, concurrency=2, settings={"LEASE_SECONDS": 2.0}) as stage:
        handle = durable.start_workflow(lasting.within, "flows.dies_after_heartbeat", ["k"])
        first = stage.fleet.start()
        waiting.until(lambda: first.exit_code == 9, "the worker to be taken along", seconds=60.0)
        first.expected = 9
        stage.fleet.start()
        assert handle.result(timeout=60) == {"page": 7}
