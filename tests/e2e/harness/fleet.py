"""Worker processes: started as users start them, and ended as machines end them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from example_project import database
from tests.e2e.harness import databases

BASE_DIR = Path(__file__).resolve().parents[3]
SETTINGS = "DURABLE_TEST_DATABASE_SETTINGS"
TROUBLE = re.compile(r"^\S+ (ERROR|CRITICAL)\b|^Traceback ", re.MULTILINE)


class WorkerProcess:
    """One ``manage.py durable_worker``. ``name`` is what the server knows it by."""

    def __init__(
        self, name: str, *, log: Path, environment: Mapping[str, str], concurrency: int, options: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.log = log
        self.expected: int | None = None  # the exit code that its end must have, once the scenario has ended it
        self.stopped_at = 0.0  # time.monotonic()
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "manage.py", "durable_worker", "--concurrency", str(concurrency)),
                    *("--verbosity", "2", *options),
                ],
                cwd=BASE_DIR,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def __repr__(self) -> str:
        return f"<{self.name}, process {self.pid}>"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL: no chance to clean up."""
        self.expected = -signal.SIGKILL
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGSTOP: it stands still wherever it is."""
        self.stopped_at = time.monotonic()
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def terminate(self, *, expected: int = 0) -> None:
        """SIGTERM: it is asked to end, and should do so with the exit code ``expected``."""
        self.expected = expected
        self._process.terminate()

    def wait(self, seconds: float) -> int:
        """Its exit code, once it has ended. Raises ``subprocess.TimeoutExpired``."""
        return self._process.wait(seconds)

    def troubles(self) -> list[str]:
        """The lines of its log that tell of errors."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [f"{self.name}: {line}" for line in lines if TROUBLE.match(line)]

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Fleet:
    """Starts workers against one database and, at the end, leaves none of them behind."""

    def __init__(
        self,
        url: str,
        directory: Path,
        *,
        settings: Mapping[str, Any],
        concurrency: int,
        environment: Mapping[str, str],
    ) -> None:
        self._url = url
        self._directory = directory
        self._concurrency = concurrency
        self._environment = {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DURABLE_TEST_DATABASE_URL": url,
            "DURABLE_TEST_SETTINGS": json.dumps(settings),
            **environment,
        }
        self.all: list[WorkerProcess] = []

    def start(self, *options: str) -> WorkerProcess:
        name = f"worker-{len(self.all) + 1}"
        worker = WorkerProcess(
            name,
            log=self._directory / f"{name}.log",
            environment={**self._environment, **self._naming(name)},
            concurrency=self._concurrency,
            options=options,
        )
        self.all.append(worker)
        return worker

    def _naming(self, name: str) -> dict[str, str]:
        """The environment in which a process tells its name to the server, whose ``trail`` has it."""
        if databases.vendor(self._url) != "mysql":
            return {"PGAPPNAME": name}
        settings = json.loads(self._environment.get(SETTINGS, "{}"))
        options = database.from_url(self._url)["OPTIONS"] | settings.get("OPTIONS", {})
        assignments = options.get("init_command", "SET").removeprefix("SET").strip()
        options["init_command"] = "SET " + ", ".join(filter(None, [assignments, f"@process = '{name}'"]))
        return {SETTINGS: json.dumps({**settings, "OPTIONS": options})}

    @property
    def running(self) -> list[WorkerProcess]:
        return [worker for worker in self.all if worker.exit_code is None]

    def check(self) -> None:
        """No worker has ended by itself, or with another exit code than was expected of it."""
        for worker in self.all:
            code = worker.exit_code
            if code is not None and code != worker.expected:
                raise AssertionError(f"{worker} ended with code {code} instead of {worker.expected}:\n{worker.tail()}")

    def troubles(self) -> list[str]:
        return [line for worker in self.all for line in worker.troubles()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.running:
            worker.kill()
