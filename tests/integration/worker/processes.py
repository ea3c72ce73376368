"""Worker processes that die at a chosen point, against the test's own database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.conf import settings as django_settings
from django.db import connection

from example_project import database
from tests.integration.worker.running import DEADLINE, wait_for

BASE_DIR = Path(__file__).resolve().parents[3]

MakeDyingWorker = Callable[..., "DyingWorker"]


class DyingWorker:
    """``manage.py dying_worker``: ends, or stands still, at the point named ``at``."""

    def __init__(self, at: str, *, log: Path, queues: str, arguments: Sequence[str] = ()) -> None:
        self._at = at
        self._log = log
        options = ["--at", at, "--queues", queues, "--concurrency", "4", *arguments]
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "dying_worker", *options],
                cwd=BASE_DIR,
                env={
                    **os.environ,
                    "DJANGO_SETTINGS_MODULE": "tests.settings",
                    "DURABLE_TEST_DATABASE_URL": url_of_tests(),
                    "DURABLE_TEST_SETTINGS": json.dumps(django_settings.DURABLE),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> int:
        """Its exit code."""
        return self._process.wait(DEADLINE)

    def wait_for_death(self) -> None:
        """Return once it has died at its point, and of nothing else."""
        code = self.wait()
        assert code == -signal.SIGKILL, f"It ended with {code} before the point {self._at!r}:\n{self._log.read_text()}"

    def wait_until_stopped(self) -> None:
        """Return once it stands still."""
        ended = wait_for(lambda: os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT), "it to stop")
        assert ended.si_code == os.CLD_STOPPED, self._log.read_text()

    def stop(self) -> None:
        """Let all of its threads stand still."""
        self._process.send_signal(signal.SIGSTOP)
        self.wait_until_stopped()

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to end in order."""
        self._process.terminate()

    def kill(self) -> None:
        """Leave nothing of it behind, stopped or not."""
        self._process.kill()
        self._process.wait()


@pytest.fixture
def make_dying_worker(transactional_db: None, configure: Any, tmp_path: Path) -> Iterator[MakeDyingWorker]:
    """Starts processes with the settings of this moment; none outlives the test."""
    made: list[DyingWorker] = []

    def make(at: str, *arguments: str, queues: str = "default") -> DyingWorker:
        process = DyingWorker(at, log=tmp_path / f"{at}-{len(made)}.log", queues=queues, arguments=arguments)
        made.append(process)
        return process

    yield make
    for process in made:
        process.kill()


def url_of_tests() -> str:
    """The test database's own URL."""
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        return database.sqlite_url(name)
    return urlunsplit(urlsplit(os.environ["DURABLE_TEST_DATABASE_URL"])._replace(path=f"/{name}"))
