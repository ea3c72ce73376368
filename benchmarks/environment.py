"""A fresh database and worker processes for one benchmark."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

DEFAULT_URL = "postgres://postgres@127.0.0.1:5432/test"


@contextmanager
def fresh_database() -> Iterator[None]:
    """Create a PostgreSQL database of its own, migrate it, and drop it at the end.

    ``DURABLE_TEST_POSTGRES_URL`` says on which server; it must be set before Django reads its settings.
    """
    import psycopg  # noqa: PLC0415  only this process needs the driver by itself

    url = os.environ.get("DURABLE_TEST_POSTGRES_URL", DEFAULT_URL)
    name = f"durable_bench_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(url.replace("postgres://", "postgresql://"), autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    os.environ["DURABLE_TEST_DATABASE_URL"] = url.rsplit("/", 1)[0] + f"/{name}"
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    try:
        import django  # noqa: PLC0415  settings are read here

        django.setup()
        from django.core.management import call_command  # noqa: PLC0415

        call_command("migrate", verbosity=0)
        yield
        from django.db import connections  # noqa: PLC0415

        connections.close_all()
    finally:
        with psycopg.connect(url.replace("postgres://", "postgresql://"), autocommit=True) as admin:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def worker_process(concurrency: int) -> Iterator[subprocess.Popen[bytes]]:
    """``manage.py durable_worker`` as users run it, against the fresh database."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "durable_worker", "--concurrency", str(concurrency), "--verbosity", "1"],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """What a running process has used of the processor, in user and system mode together (Linux)."""
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
