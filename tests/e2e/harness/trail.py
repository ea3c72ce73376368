"""PostgreSQL's own record of who wrote what: triggers that note the process behind every row of ours."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from django.db import connection

from django_durable.models import (
    ActivityOutcome,
    ActivityTask,
    Dispatch,
    HistoryEvent,
    InboxMessage,
    Worker,
    WorkflowRun,
)
from tests.flows.models import Entry

LEDGER = Entry._meta.db_table
HISTORY = HistoryEvent._meta.db_table
WATCHED = (ActivityOutcome, ActivityTask, Dispatch, HistoryEvent, InboxMessage, WorkflowRun, Entry)


class Step(NamedTuple):
    """One row that a worker process has written.

    ``owner``: who owned the run of a history event at that moment; ``kind``: of a ledger row.
    """

    id: int
    at: datetime
    process: str
    relation: str
    operation: str
    owner: str | None
    dead: bool | None
    kind: str | None


_COLUMNS = ", ".join(Step._fields)
_INSTALL = f"""
CREATE TABLE trail (
    id bigserial PRIMARY KEY, at timestamptz NOT NULL, process text NOT NULL, relation text NOT NULL,
    operation text NOT NULL, owner text, dead boolean, kind text);
CREATE FUNCTION note_writer() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    found record;
    process text := current_setting('application_name');
BEGIN
    IF process NOT LIKE 'worker-%%' THEN
        RETURN NULL;
    END IF;
    IF TG_TABLE_NAME = '{HISTORY}' THEN
        SELECT worker.name, worker.dead INTO found FROM {Dispatch._meta.db_table} AS chain
        JOIN {Worker._meta.db_table} AS worker ON worker.id = chain.owner WHERE chain.run_id = NEW.run_id;
        INSERT INTO trail (at, process, relation, operation, owner, dead)
        VALUES (clock_timestamp(), process, TG_TABLE_NAME, TG_OP, found.name, found.dead);
    ELSE
        INSERT INTO trail (at, process, relation, operation, kind)
        VALUES (clock_timestamp(), process, TG_TABLE_NAME, TG_OP, to_jsonb(NEW) ->> 'kind');
    END IF;
    RETURN NULL;
END $$;
"""


def install() -> None:
    """Begin to keep the record in the current database."""
    with connection.cursor() as cursor:
        cursor.execute(_INSTALL.replace("%%", "%"))
        for model in WATCHED:
            cursor.execute(
                f"CREATE TRIGGER note_writer AFTER INSERT OR UPDATE OR DELETE ON {model._meta.db_table} "
                "FOR EACH ROW EXECUTE FUNCTION note_writer()"
            )


def steps(process: str, *, besides: Collection[int] = ()) -> list[Step]:
    """What a process has committed, in order."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {_COLUMNS} FROM trail WHERE process = %s AND NOT id = ANY(%s) ORDER BY id",
            [process, list(besides)],
        )
        return [Step(*row) for row in cursor.fetchall()]


def ids(process: str) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM trail WHERE process = %s", [process])
        return [row[0] for row in cursor.fetchall()]


def strangers(process: str, pid: int) -> list[Step]:
    """History events that this process wrote into runs which were not its own, or under a dead worker's name."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {_COLUMNS} FROM trail WHERE process = %s "
            "AND relation = %s AND operation = 'INSERT' AND (owner IS NULL OR dead OR owner NOT LIKE %s)",
            [process, HISTORY, f"%:{pid}"],
        )
        return [Step(*row) for row in cursor.fetchall()]


def rewritten() -> int:
    """How many history events were changed or deleted by workers: none may be."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM trail WHERE relation = %s AND operation <> 'INSERT'", [HISTORY])
        return int(cursor.fetchone()[0])
