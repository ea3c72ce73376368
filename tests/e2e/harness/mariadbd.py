"""A MariaDB server of one's own, in a directory that goes away with it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from example_project.processes import free_port
from tests.e2e.harness import waiting

ACCOUNT = "mysql"  # who runs the server when we are root: it refuses to be root itself
PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/local/libexec")
START_SECONDS = 60.0


def programs() -> tuple[str, str] | None:
    """Where the server is, and what makes its directory, if they are installed."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *PLACES))
    server, installer = shutil.which("mariadbd", path=path), shutil.which("mariadb-install-db", path=path)
    return (server, installer) if server and installer else None


class Mariadbd:
    """A running server. It keeps its promises about the disk: each commit waits for it."""

    def __init__(self, directory: Path, port: int) -> None:
        found = programs()
        assert found is not None, "no MariaDB server is installed"
        self._server, self._installer = found
        self._directory = directory
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mysql://root@127.0.0.1:{self._port}/mysql"

    def create(self) -> None:
        installing = [self._installer, "--no-defaults", f"--datadir={self._directory / 'data'}", "--skip-test-db"]
        self._start(*installing, "--auth-root-authentication-method=normal").wait(START_SECONDS)
        self._serve()

    def crash_and_restart(self) -> None:
        """As after a power cut: no shutdown, then a recovery from the log."""
        self.stop()
        self._serve()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _serve(self) -> None:
        self._process = self._start(
            self._server,
            "--no-defaults",
            f"--datadir={self._directory / 'data'}",
            f"--socket={self._directory / 'socket'}",
            f"--port={self._port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
        )
        waiting.until(self._answers, "the MariaDB server to answer", seconds=START_SECONDS)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the server ended:\n{(self._directory / 'log').read_text()}"
        try:
            socket.create_connection(("127.0.0.1", self._port)).close()
        except ConnectionRefusedError:
            return False
        return True

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        account = ACCOUNT if os.geteuid() == 0 else None
        with open(self._directory / "log", "ab") as log:
            return subprocess.Popen(
                command,
                user=account,
                group=account,
                extra_groups=[] if account else None,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


@contextmanager
def own_server() -> Iterator[Mariadbd]:
    """A new server on a free port. The caller has made sure that there are ``programs``."""
    directory = Path(tempfile.mkdtemp(prefix="durable-mariadb-"))
    if os.geteuid() == 0:
        shutil.chown(directory, ACCOUNT, ACCOUNT)
    server = Mariadbd(directory, free_port())
    try:
        server.create()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)
