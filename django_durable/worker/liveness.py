"""Signs of life: a file for each worker process, kept fresh by its engine, for probes on the same machine.

The database is not asked: a worker that waits for it lives, and a new process would wait as well. Nor is a thread
trusted that only shows that threads run: the engine itself renews the file, with each step that it makes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec
from django.conf import settings as django_settings
from django.db import connections

from django_durable import conf

try:
    import fcntl
except ImportError:  # Windows: what a killed worker leaves there is not told from one that stands still
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("django_durable.worker")

RENEW_SECONDS = 1.0
SUFFIX = ".worker"


def directory() -> Path:
    """Where the workers of this project leave their signs: other projects, and other users, have other ones."""
    chosen = conf.current().HEALTH_DIRECTORY
    if chosen:
        return Path(chosen)
    database = connections.settings[conf.current().DATABASE]
    place = [django_settings.SETTINGS_MODULE, *map(database.get, ("ENGINE", "HOST", "PORT", "NAME"))]
    project = hashlib.sha256("\0".join(map(str, place)).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"django_durable-{os.getuid() if hasattr(os, 'getuid') else ''}-{project}"


class Sign:
    """This process's own. The file is locked for as long as the process exists, whatever ends it."""

    def __init__(self, queues: tuple[str, ...]) -> None:
        self._queues = queues
        self._path: Path | None = None
        self._file: IO[bytes] | None = None
        self._next = 0.0

    def renew(self) -> None:
        """The engine has made a step. Writes once a second; never raises."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + RENEW_SECONDS
        try:
            if self._path is None:
                self._make()
            else:
                os.utime(self._path)
        except FileNotFoundError:  # somebody has tidied up
            self.remove()
        except OSError as error:
            self._next = time.monotonic() + 60 * RENEW_SECONDS
            logger.warning(
                "No sign of life can be left for durable_health: %s. Set DURABLE['HEALTH_DIRECTORY'].", error
            )

    def remove(self) -> None:
        """The process ends in order."""
        path, self._path = self._path, None
        if path is not None:
            path.unlink(missing_ok=True)
        if self._file is not None:
            self._file.close()

    def _make(self) -> None:
        place = directory()
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        signs()  # and what was left behind is gone: who looks at the files alone would take it for a worker
        fresh = place / f"{os.getpid()}.new"
        self._file = open(fresh, "wb")
        if fcntl is not None:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        self._file.write(msgspec.json.encode({"pid": os.getpid(), "queues": self._queues}))
        self._file.flush()
        self._path = fresh.with_suffix(SUFFIX)
        fresh.replace(self._path)  # nobody ever finds it without its lock


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSign:
    """What a worker process on this machine shows. ``silent_seconds``: since its engine last made a step."""

    pid: int
    queues: tuple[str, ...]
    silent_seconds: float


def signs() -> list[WorkerSign]:
    """The worker processes of this project that exist on this machine, whether they make progress or not."""
    return sorted(_read(), key=lambda sign: sign.pid)


def _read() -> Iterator[WorkerSign]:
    for path in directory().glob(f"*{SUFFIX}"):
        try:
            with open(path, "rb") as file:
                if _is_left_behind(file):
                    path.unlink(missing_ok=True)
                    continue
                shown = msgspec.json.decode(file.read())
                silent = max(time.time() - os.fstat(file.fileno()).st_mtime, 0.0)
        except FileNotFoundError:  # it has just ended
            continue
        yield WorkerSign(pid=shown["pid"], queues=tuple(shown["queues"]), silent_seconds=silent)


def _is_left_behind(file: IO[bytes]) -> bool:
    """Whether the process that made it is gone: its lock went with it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
