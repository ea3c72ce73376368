"""A PgBouncer of one's own before PostgreSQL, in transaction mode: what many projects reach their database through."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from example_project.processes import free_port
from tests.e2e.harness import databases, waiting
from tests.e2e.harness.cluster import ACCOUNT

PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin")
START_SECONDS = 30.0
SERVERS = 20  # connections to PostgreSQL that all clients share


def program() -> str | None:
    """Where PgBouncer is, if it is installed. Debian's place for it is on root's PATH only."""
    return shutil.which("pgbouncer", path=os.pathsep.join((os.environ.get("PATH", ""), *PLACES)))


@contextmanager
def pooled(url: str) -> Iterator[str]:
    """The same database behind a PgBouncer in transaction mode, whose connections any number of clients share."""
    installed = program()
    assert installed is not None, "PgBouncer is not installed"
    directory = Path(tempfile.mkdtemp(prefix="durable-pooler-"))
    port = free_port()
    (directory / "pgbouncer.ini").write_text(_configuration(url, port))
    account = ACCOUNT if os.geteuid() == 0 else None  # it refuses to be root
    if account:
        shutil.chown(directory, account, account)
    process = subprocess.Popen(
        [installed, "--quiet", str(directory / "pgbouncer.ini")],
        user=account,
        group=account,
        extra_groups=[] if account else None,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        waiting.until(lambda: _answers(port), "PgBouncer to answer", seconds=START_SECONDS)
        yield databases.with_address(url, "127.0.0.1", port)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory)


def _configuration(url: str, port: int) -> str:
    parts = urlsplit(url)
    server = {
        "host": parts.hostname or "127.0.0.1",
        "port": parts.port or 5432,
        "user": unquote(parts.username or ACCOUNT),
        **({"password": unquote(parts.password)} if parts.password else {}),
    }
    options = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "auth_type": "any",
        "pool_mode": "transaction",
        "default_pool_size": SERVERS,
        "max_client_conn": 500,
    }
    return "\n".join(
        [
            "[databases]",
            "* = " + " ".join(f"{name}={value}" for name, value in server.items()),
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in options.items()),
        ]
    )


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
