"""A fresh database and worker processes for one benchmark."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from example_project import database

DEFAULT_URL = "postgres://postgres@127.0.0.1:5432/test"
DEFAULT_MARIADB_URL = "mysql://root@127.0.0.1:3306/test"

_workers: list[subprocess.Popen[bytes]] = []


@contextmanager
def fresh_database(vendor: str = "postgres") -> Iterator[None]:
    """Create a database of its own, migrate it, and drop it at the end, also if that is SIGTERM.

    ``DURABLE_TEST_POSTGRES_URL`` says on which server, ``DURABLE_TEST_MARIADB_URL`` for the ``vendor`` "mariadb"; they
    must be set before Django reads its settings. "sqlite": a file in a temporary directory.
    """
    url, drop = {"sqlite": _sqlite, "mariadb": _mariadb}.get(vendor, _postgres)()
    os.environ["DURABLE_TEST_DATABASE_URL"] = url
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    before = signal.signal(signal.SIGTERM, partial(_end_at_once, drop))
    try:
        import django  # noqa: PLC0415  settings are read here

        django.setup()
        from django.core.management import call_command  # noqa: PLC0415

        call_command("migrate", verbosity=0)
        if os.environ.get("DURABLE_TEST_PARTITIONED"):
            call_command("durable_partition")
        yield
        from django.db import connections  # noqa: PLC0415

        connections.close_all()
    finally:
        signal.signal(signal.SIGTERM, before)
        drop()


def _postgres() -> tuple[str, Callable[[], object]]:
    """The URL of a new database, and what drops it."""
    import psycopg  # noqa: PLC0415  only this process needs the driver by itself

    url = os.environ.get("DURABLE_TEST_POSTGRES_URL", DEFAULT_URL)
    name = f"durable_bench_{uuid.uuid4().hex[:8]}"

    def execute(sql: str) -> None:
        with psycopg.connect(url.replace("postgres://", "postgresql://"), autocommit=True) as admin:
            admin.execute(sql)

    execute(f'CREATE DATABASE "{name}"')
    return url.rsplit("/", 1)[0] + f"/{name}", lambda: execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _mariadb() -> tuple[str, Callable[[], object]]:
    import MySQLdb  # noqa: PLC0415

    url = os.environ.get("DURABLE_TEST_MARIADB_URL", DEFAULT_MARIADB_URL)
    name = f"durable_bench_{uuid.uuid4().hex[:8]}"
    known = database.from_url(url)

    def execute(sql: str) -> None:
        admin = MySQLdb.connect(
            host=known["HOST"], port=int(known["PORT"] or 3306), user=known["USER"], password=known["PASSWORD"]
        )
        admin.query(sql)
        admin.close()

    execute(f"CREATE DATABASE `{name}`")
    return url.rsplit("/", 1)[0] + f"/{name}", lambda: execute(f"DROP DATABASE `{name}`")


def _sqlite() -> tuple[str, Callable[[], object]]:
    directory = Path(tempfile.mkdtemp(prefix="durable_bench_"))
    return database.sqlite_url(directory / "db.sqlite3"), lambda: shutil.rmtree(directory)


def _end_at_once(drop: Callable[[], object], *_: object) -> None:
    """An exception would not do: workflows and activities that run in this process might swallow it."""
    for process in _workers:
        process.kill()
    drop()
    os._exit(128 + signal.SIGTERM)


@contextmanager
def worker_process(concurrency: int, processes: int = 1) -> Iterator[subprocess.Popen[bytes]]:
    """``manage.py durable_worker`` as users run it, against the fresh database."""
    options = ["--concurrency", str(concurrency), "--processes", str(processes), "--verbosity", "1"]
    process = subprocess.Popen(
        [sys.executable, "manage.py", "durable_worker", *options],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
    )
    _workers.append(process)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)
        _workers.remove(process)


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """What a running process and its children have used of the processor, in user and system mode together (Linux)."""
    own = Path(f"/proc/{process.pid}")
    children = (own / "task" / str(process.pid) / "children").read_text().split()
    ticks = 0
    for each in (own, *(own.parent / child for child in children)):
        fields = (each / "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
