"""The workflows of a scenario: what was started, what must come of it."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from django_durable import durable
from django_durable.client import WorkflowHandle
from django_durable.history.status import CLOSED, Status
from django_durable.models import WorkflowRun
from tests.e2e.harness import waiting
from tests.flows import workflows
from tests.flows.models import Entry


@dataclass(slots=True)
class Work:
    """Runs of ``effects``: each alternates ordinary and exactly-once effects, each effect writes a ledger row."""

    handles: dict[str, WorkflowHandle[Any]] = field(default_factory=dict)  # by the key of their effects
    steps: dict[str, int] = field(default_factory=dict)

    def add(self, workflows_: int, *, steps: int, seconds: float) -> list[WorkflowHandle[Any]]:
        """Start this many runs; each step takes ``seconds``, inside the transaction of those that have one."""
        keys = [uuid.uuid4().hex[:12] for _ in range(workflows_)]
        handles = durable.start_workflows([workflows.effects.call(key, steps, seconds) for key in keys])
        self.handles |= zip(keys, handles, strict=True)
        self.steps |= dict.fromkeys(keys, steps)
        return handles

    def statuses(self) -> Counter[str]:
        ids = [handle.run_id for handle in self.handles.values()]
        return Counter(WorkflowRun.objects.filter(pk__in=ids).values_list("status", flat=True))

    def unfinished(self) -> int:
        statuses = self.statuses()
        return sum(statuses.values()) - statuses[Status.COMPLETED]

    def effects(self) -> int:
        """How many ledger rows there are so far."""
        return Entry.objects.filter(kind__in=("plain", "atomic")).count()

    def expected_effects(self) -> int:
        return sum(self.steps.values())

    def wait(self, *, seconds: float, check: Any = None) -> None:
        """Wait until every run has completed. ``check()`` may raise meanwhile. One that ends otherwise never will."""

        def done() -> bool:
            if check is not None:
                check()
            lost = self.statuses().keys() & CLOSED - {Status.COMPLETED}
            assert not lost, f"a run has not completed: {self.describe()}; {self.failures()}"
            return self.unfinished() == 0

        waiting.until(done, "the runs to complete", seconds=seconds, tell=self.describe, step=0.2)

    def failures(self) -> list[str]:
        """What made runs fail."""
        ids = [handle.run_id for handle in self.handles.values()]
        failed = WorkflowRun.objects.failed().filter(pk__in=ids)
        return [f"{run.workflow_id}: {run.failure}" for run in failed]

    def describe(self) -> str:
        found = ", ".join(f"{count} {status}" for status, count in sorted(self.statuses().items()))
        return f"{found}; {self.effects()} effects"
