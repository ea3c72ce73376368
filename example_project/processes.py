"""Server and worker as processes of their own, ended for certain when the program that started them ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

BASE_DIR = Path(__file__).resolve().parent.parent
GRACE_SECONDS = 5


class ProcessEnded(Exception):
    """A process that should be running is not, or a command has failed."""


class ManageProcess:
    """A running ``manage.py`` command with its own log file, in a process group of its own."""

    def __init__(self, *arguments: str, environment: Mapping[str, str], log: Path | None) -> None:
        self.name = arguments[0]
        self.log = log
        with open(log or os.devnull, "wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", *arguments],
                cwd=BASE_DIR,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output if log else None,
                stderr=subprocess.STDOUT if log else None,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raise ``ProcessEnded`` with the end of its log unless it is running."""
        code = self._process.poll()
        if code is not None:
            raise ProcessEnded(f"manage.py {self.name} ended by itself with code {code}.{self._log_tail()}")

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL, no chance to clean up."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Ask it to end, and kill it if it does not within a few seconds."""
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:  # not reaped yet, so the number cannot be another process's by now
            os.killpg(self._process.pid, number)

    def _log_tail(self) -> str:
        if self.log is None:
            return ""
        lines = self.log.read_text(errors="replace").splitlines()[-15:]
        return "\n".join([f" The end of {self.log}:", *(f"  {line}" for line in lines)])


class ProcessSet:
    """Starts processes and, as a context manager, stops every one of them at the end."""

    def __init__(self, *, environment: Mapping[str, str], log_directory: Path | None = None) -> None:
        self._environment = environment
        self._log_directory = log_directory
        self._started: list[ManageProcess] = []

    def start(self, *arguments: str) -> ManageProcess:
        """Start ``manage.py`` with these arguments."""
        log = self._log_directory and self._log_directory / f"{len(self._started) + 1}-{arguments[0]}.log"
        process = ManageProcess(*arguments, environment=self._environment, log=log)
        self._started.append(process)
        return process

    def run(self, *arguments: str, **environment: str) -> None:
        """Run a command to its end. Raises ``ProcessEnded`` if it fails."""
        ended = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=BASE_DIR,
            env={**os.environ, **self._environment, **environment},
            check=False,
        )
        if ended.returncode:
            raise ProcessEnded(f"manage.py {arguments[0]} failed with code {ended.returncode}.")

    def __enter__(self) -> Self:
        signal.signal(signal.SIGTERM, _leave)  # so that "with" blocks end as they do on Ctrl-C
        signal.signal(signal.SIGHUP, _leave)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._started):
            process.stop()


def free_port(wanted: int = 0) -> int:
    """``wanted`` if that port of this machine is free, else any free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("This machine has no free port.")


def _leave(number: int, frame: Any) -> NoReturn:
    sys.exit(128 + number)
