"""Every test here may have workers and gates."""

from tests.integration.worker.gates import make_gate
from tests.integration.worker.running import configure, make_worker, worker

__all__ = ["configure", "make_gate", "make_worker", "worker"]
