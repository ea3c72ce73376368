"""A worker inside the web process, for development: one process to start, nothing to forget.

In production run ``manage.py durable_worker`` instead: deploys and memory limits of the web server then never cut
activities short.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django_durable import conf
from django_durable.worker.worker import Worker

logger = logging.getLogger("django_durable.worker")

PATIENCE = 2.0  # seconds that the end of the process waits for the worker to hand over

_lock = threading.Lock()
_worker: Worker | None = None
_process = 0
_refused = False


def start_embedded_worker() -> Worker | None:
    """Start this process's worker unless it runs already; call it from ``wsgi.py`` or ``asgi.py``.

    Safe to call again and again, also after a fork: never two in one process. None in a process that is a worker
    itself.
    """
    global _worker, _process
    with _lock:
        if _refused:
            return None
        if _worker is None or _process != os.getpid() or _worker.has_ended:
            _worker, _process = Worker(), os.getpid()
            _worker.start()
            logger.info("This process runs a worker of its own (EMBEDDED_WORKER).")
        return _worker


def start_if_configured(**_: object) -> None:
    """A request or a start has come: begin to work if the project asked for it."""
    if conf.current().EMBEDDED_WORKER:
        worker = start_embedded_worker()
        if worker is not None:
            worker.wake()


@contextmanager
def standing_back() -> Iterator[None]:
    """Inside the block no worker is started here: the process is one itself, or a test's environment does the work."""
    global _refused
    before, _refused = _refused, True
    try:
        yield
    finally:
        _refused = before


@atexit.register
def _hand_over() -> None:
    """The process ends, by the autoreloader for example: give everything back at once, not after the lease."""
    worker = _worker
    if worker is None or _process != os.getpid() or worker.has_ended:
        return
    worker.stop()
    if not worker.join(PATIENCE):
        worker.force_stop()
