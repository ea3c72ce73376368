"""What this worker has in its hands: runs that it owns, attempts that it executes, reports it still has to make."""

from __future__ import annotations

from uuid import UUID

from django_durable.store import delivery, tasks
from django_durable.worker.jobs import Job
from django_durable.worker.ownership import OwnedRun


class Holdings:
    """Only the engine thread touches it."""

    def __init__(self) -> None:
        self.owned: dict[UUID, OwnedRun] = {}  # by chain
        self.ready: dict[UUID, OwnedRun] = {}  # those with inputs to drain or something to write, in turn
        self.jobs: set[Job] = set()  # attempts in slots, whoever waits for them
        self.reports: dict[tasks.Held, delivery.Report] = {}  # outcomes of task rows whose runs others own
        self.freed: set[str] = set()  # queues in which something of ours has ended

    def run_of(self, job: Job) -> OwnedRun | None:
        """The owned run that waits for this attempt."""
        run = self.owned.get(job.chain_id)
        return run if run is not None and run.claimed.run_id == job.run_id else None

    def wake(self, run: OwnedRun) -> None:
        """The run has something to drain or to write."""
        run.idle_since = None
        if not run.ends_outside:
            self.ready[run.claimed.chain_id] = run

    def drop(self, run: OwnedRun) -> None:
        """The run is not ours any more."""
        self.owned.pop(run.claimed.chain_id, None)
        self.ready.pop(run.claimed.chain_id, None)

    def active(self) -> int:
        """Owned runs that are about to need a slot again."""
        return sum(1 for run in self.owned.values() if run.idle_since is None)
