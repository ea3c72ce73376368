"""Whether PostgreSQL is reached directly, or through a pooler that lends its connections to many clients."""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper


def is_pooled(own: BaseDatabaseWrapper) -> bool:
    """Whether a pooler, such as PgBouncer, stands between this connection and PostgreSQL.

    It answers a client before it has a server process for it, so the process id that it told then is one of its own.
    """
    own.ensure_connection()
    assert own.connection is not None
    with own.cursor() as executing:
        executing.execute("SELECT pg_backend_pid()")
        [process] = executing.fetchone()
    return bool(own.connection.info.backend_pid != process)
