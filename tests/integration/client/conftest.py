"""Every test here may have workers."""

from tests.integration.worker.running import durable, make_worker, worker

__all__ = ["durable", "make_worker", "worker"]
