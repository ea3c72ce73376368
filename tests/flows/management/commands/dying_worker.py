"""``manage.py dying_worker --at POINT``: a worker process that ends, or stands still, at exactly one point of its work.

One function of the package is wrapped, so that the process kills itself just before or just after it. Until then it is
the worker that ``durable_worker`` runs.
"""

from __future__ import annotations

import os
import signal
import threading
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from django_durable.client import messaging
from django_durable.management.commands import durable_worker
from django_durable.store import claims, database, flush, holds
from django_durable.worker import attempts
from django_durable.worker.engine import Engine
from django_durable.worker.executors import Slots
from django_durable.worker.holdings import Holdings
from django_durable.worker.instances import InstanceCache
from django_durable.worker.loading import Loader
from django_durable.worker.pausing import Pausing
from django_durable.worker.releasing import Releaser
from django_durable.worker.results import Results
from tests.flows import activities, workflows


def die(*args: Any, **options: Any) -> None:
    """As by a power cut: no handler, no ``finally``, no last word to the database."""
    os.kill(os.getpid(), signal.SIGKILL)


def stand_still(*args: Any, **options: Any) -> None:
    """All threads stop, this one before it returns; SIGCONT lets them go on."""
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def before(owner: Any, name: str) -> None:
    """Die when ``owner.name`` is called."""
    setattr(owner, name, die)


def after(owner: Any, name: str, end: Callable[..., None] = die) -> None:
    """``end`` when ``owner.name`` has done something: when it returns anything but an empty collection."""
    original = getattr(owner, name)

    @wraps(original)
    def wrapped(*args: Any, **options: Any) -> Any:
        value = original(*args, **options)
        if value or value is None:
            end()
        return value

    setattr(owner, name, wrapped)


def stop_once(owner: Any, name: str) -> None:
    """Stand still after the first call of ``owner.name``."""
    original = getattr(owner, name)

    def stop() -> None:
        setattr(owner, name, original)
        stand_still()

    after(owner, name, stop)


def hang(owner: Any, name: str) -> None:
    """The thread that calls ``owner.name`` never returns from there."""
    setattr(owner, name, lambda *args: threading.Event().wait())


def in_commit() -> None:
    """Die when the COMMIT of a flush is on its way and its answer is not."""
    after(flush, "_write", lambda: setattr(database.connection(), "_commit", send_commit_and_die))


def send_commit_and_die() -> None:
    own = database.connection()
    if own.vendor == "postgresql":
        own.connection.pgconn.send_query(b"COMMIT")
        own.connection.pgconn.flush()
    else:
        own.connection.commit()
    die()


def after_release() -> None:
    """Die after a release that a message has overtaken: its sender saw an owner, and left the rest to it."""
    original = Releaser.release

    def release(releaser: Releaser, *, draining: bool) -> bool:
        idle = [run.workflow_id for run in releaser._holdings.owned.values() if run.idle_since is not None]
        for workflow_id in idle:
            messaging.signal_workflow(workflow_id, workflows.approved("overtaken"))
        return original(releaser, draining=draining)

    Releaser.release = release  # type: ignore[method-assign, assignment]
    before(InstanceCache, "keep")


POINTS: dict[str, Callable[[], None]] = {
    "claiming": partial(after, claims, "claim"),  # the claim's transaction is open
    "claimed": partial(before, Loader, "load"),
    "computed": partial(before, flush, "flush"),
    "writing": partial(after, flush, "_write"),  # the flush's transaction is open
    "committing": in_commit,
    "committed": partial(before, Slots, "start"),
    "running": partial(after, activities, "note"),  # the activity has had its effect and goes on
    "finished": partial(before, Results, "take"),
    "atomic": partial(before, attempts, "_read_back"),  # the activity's transaction is committed
    "reported": partial(before, messaging, "hint"),
    "released": after_release,
    "pausing": partial(before, holds, "settle"),
    "settling": partial(after, holds, "settle"),  # the transaction that gives the run back as paused is open
    "rested": partial(before, Pausing, "_paused"),  # it is committed
    "dropping": partial(before, Holdings, "drop"),  # the run has ended, or is not this worker's any more
    "hanging": partial(hang, Engine, "step"),  # its other threads go on
    "stopped": partial(stop_once, flush, "_write"),
    "never": lambda: None,
}


class Command(durable_worker.Command):
    help = "Runs workflows and activities up to a point, and there dies without warning."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--at", choices=POINTS, required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        POINTS[options["at"]]()
        super().handle(*args, **options)
