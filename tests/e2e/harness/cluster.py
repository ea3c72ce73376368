"""A PostgreSQL server of one's own, in a directory that goes away with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from example_project.processes import free_port

ACCOUNT = "postgres"  # who runs the server when we are root: it refuses to be root itself
INSTALLED = "/usr/lib/postgresql/*/bin"


def binaries() -> Path | None:
    """The directory of ``initdb`` and ``pg_ctl``, the newest version if there are several."""
    found = sorted(Path("/").glob(f"{INSTALLED.lstrip('/')}/pg_ctl"), key=lambda path: int(path.parent.parent.name))
    on_path = shutil.which("pg_ctl")
    found = found or ([Path(on_path)] if on_path else [])
    usable = [path.parent for path in found if (path.parent / "initdb").exists()]
    return usable[-1] if usable else None


class Cluster:
    """A running server. It keeps its promises about the disk: ``fsync`` is on."""

    def __init__(self, directory: Path, port: int, commands: Path) -> None:
        self._data = directory / "data"
        self._log = directory / "server.log"
        self._port = port
        self._commands = commands
        self._options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory}"

    @property
    def url(self) -> str:
        return f"postgres://{ACCOUNT}@127.0.0.1:{self._port}/postgres"

    def create(self) -> None:
        self._run("initdb", "--pgdata", str(self._data), "--auth", "trust", "--username", ACCOUNT, "--no-sync")
        self._control("start")

    def crash_and_restart(self) -> None:
        """As after a power cut: no shutdown, then a recovery from the log."""
        self._control("restart", "-m", "immediate")

    def stop(self) -> None:
        self._control("stop", "-m", "immediate")

    def _control(self, verb: str, *more: str) -> None:
        options = [] if verb == "stop" else ["-l", str(self._log), "-o", self._options]
        self._run("pg_ctl", verb, "--pgdata", str(self._data), "--wait", *options, *more)

    def _run(self, command: str, *arguments: str) -> None:
        account = ACCOUNT if os.geteuid() == 0 else None
        subprocess.run(
            [str(self._commands / command), *arguments],
            check=True,
            user=account,
            group=account,
            extra_groups=[] if account else None,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=120,
        )


@contextmanager
def own_cluster() -> Iterator[Cluster]:
    """A new server on a free port. The caller has made sure that there are ``binaries``."""
    commands = binaries()
    assert commands is not None, f"no PostgreSQL server is installed below {INSTALLED}"
    directory = Path(tempfile.mkdtemp(prefix="durable-cluster-"))
    if os.geteuid() == 0:
        shutil.chown(directory, ACCOUNT, ACCOUNT)
    cluster = Cluster(directory, free_port(), commands)
    try:
        cluster.create()
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(directory)
