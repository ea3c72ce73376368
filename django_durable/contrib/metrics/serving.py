"""A worker's own server: its metrics, and whether it lives and is ready, for probes over HTTP.

Several worker processes on one address share it: each writes what it counts into the directory that
``PROMETHEUS_MULTIPROC_DIR`` names, one of them serves the sum, and when that one ends another takes its place.
"""

from __future__ import annotations

import errno
import logging
import os
import socketserver
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from django.db import connections
from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from django_durable import conf
from django_durable.client import readiness
from django_durable.worker import liveness

logger = logging.getLogger("django_durable.worker")

SHARED = "PROMETHEUS_MULTIPROC_DIR"
RETRY_SECONDS = 2.0  # between two looks whether the process that serves for all has ended

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Server(socketserver.ThreadingMixIn, WSGIServer):
    """One that does not keep its process from ending."""

    daemon_threads = True


class Handler(WSGIRequestHandler):
    """One that does not log every look."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


def serve(address: str) -> None:
    """Serve from threads of their own. ``address``: a port, or an address with one.

    Raises ``OSError`` if the port is taken, by anything but another process of the same worker, and ``ValueError`` for
    what is no address.
    """
    host, _, port = address.rpartition(":")
    place = (host.strip("[]") or "0.0.0.0", int(port))
    server = _bind(place)
    thread = threading.Thread(target=_serve, args=[server, place], name="metrics-server", daemon=True)
    thread.start()


def _bind(place: tuple[str, int]) -> Server | None:
    """None: another process serves for this one, too."""
    try:
        return make_server(*place, _application(), server_class=Server, handler_class=Handler)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and SHARED in os.environ:
            return None
        raise


def _serve(server: Server | None, place: tuple[str, int]) -> None:
    while server is None:
        threading.Event().wait(RETRY_SECONDS)
        try:
            server = _bind(place)
        except OSError as error:
            logger.warning("Metrics cannot be served at %s:%s: %s", *place, error)
            return
    server.serve_forever()


def _application() -> Application:
    metrics = make_wsgi_app(_registry())

    def application(environment: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        path = environment["PATH_INFO"]
        if path in PROBES:
            return _answer(PROBES[path](), respond)
        if path.rstrip("/") in ("", "/metrics"):
            return list(metrics(environment, respond))
        return _answer(["there are /metrics, /live and /ready here"], respond, status="404 Not Found")

    return application


def _registry() -> CollectorRegistry:
    if SHARED not in os.environ:
        return REGISTRY
    shared = CollectorRegistry()
    shared.register(SharedCollector())
    return shared


class SharedCollector(Collector):
    """The sum of what all processes have written. What runs now is that of those which exist."""

    def __init__(self) -> None:
        self._collector = MultiProcessCollector(None)  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Metric]:
        for process in _left_behind(Path(os.environ[SHARED])):
            mark_process_dead(process)  # type: ignore[no-untyped-call]
        found: Iterable[Metric] = self._collector.collect()  # type: ignore[no-untyped-call]
        return found


def _left_behind(directory: Path) -> set[int]:
    """Processes that have written there, and are gone."""
    written = {int(path.stem.rpartition("_")[2]) for path in directory.glob("gauge_live*_*.db")}
    return {process for process in written if not _exists(process)}


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _live() -> list[str]:
    """Why the workers here do not live; empty: they do."""
    most = conf.current().LEASE_SECONDS
    signs = liveness.signs()
    if not signs:
        return ["no worker has made a step yet"]
    return [
        f"worker {sign.pid} has made no step for {sign.silent_seconds:.0f} s"
        for sign in signs
        if sign.silent_seconds > most
    ]


def _ready() -> list[str]:
    """What keeps workers here from working; empty: nothing."""
    try:
        return [f"{one.name}: {one.problem}" for one in readiness.findings() if one.problem]
    finally:
        connections.close_all()  # of this thread, which answers once


PROBES: dict[str, Callable[[], list[str]]] = {"/live": _live, "/ready": _ready}


def _answer(problems: list[str], respond: Callable[..., Any], *, status: str | None = None) -> list[bytes]:
    status = status or ("503 Service Unavailable" if problems else "200 OK")
    respond(status, [("Content-Type", "text/plain; charset=utf-8")])
    return ["".join(f"{line}\n" for line in problems or ["ok"]).encode()]
