"""Handlers take signals in real workers, whatever those keep in memory, and a run waits for them before it ends."""

from __future__ import annotations

import pytest

from django_durable import WorkflowFailed, durable
from tests.flows import workflows
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE

WORDS = [f"word {number}" for number in range(10)]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("cache", [0, 1_000])
def test_every_signal_is_handled_before_the_run_ends(make_worker, configure, cache, workers):
    configure(INSTANCE_CACHE_SIZE=cache)
    handle = durable.start_workflow(workflows.notes)
    for word in WORDS[:5]:
        handle.signal(workflows.noted(word))
    for _ in range(workers):
        make_worker()
    for word in WORDS[5:]:
        handle.signal(workflows.noted(word))
    handle.signal("count", "not a number")
    handle.signal("count", 3)
    handle.signal("stop")
    seen = handle.result(timeout=DEADLINE)
    assert sorted(seen) == sorted([*WORDS, "3"])
    kinds = [entry.type for entry in handle.history()]
    assert kinds.count("SignalRejected") == 1
    assert_invariants(handle)


def test_what_a_handler_raises_fails_the_run(worker):
    handle = durable.start_workflow(workflows.breaks_on_signal)
    handle.signal("break", "it")
    with pytest.raises(WorkflowFailed) as caught:
        handle.result(timeout=DEADLINE)
    assert (caught.value.type, caught.value.message) == ("ValueError", "broke it")
    assert_invariants(handle)
