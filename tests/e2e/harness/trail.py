"""The server's own record of who wrote what: triggers that note the process behind every row of ours.

A process is known by its application name on PostgreSQL, and by the variable ``@process`` of its sessions on MariaDB.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
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
_POSTGRES = f"""
CREATE TABLE trail (
    id bigserial PRIMARY KEY, at timestamptz NOT NULL, process text NOT NULL, relation text NOT NULL,
    operation text NOT NULL, owner text, dead boolean, kind text);
CREATE FUNCTION note_writer() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    found record;
    process text := current_setting('application_name');
BEGIN
    IF process NOT LIKE 'worker-%' THEN
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
_MARIADB = """
CREATE TABLE trail (
    id bigint AUTO_INCREMENT PRIMARY KEY, at datetime(6) NOT NULL, process varchar(50) NOT NULL,
    session bigint NOT NULL, relation varchar(64) NOT NULL, operation varchar(10) NOT NULL, owner varchar(255),
    dead boolean, kind varchar(255), INDEX (process, id))
"""
_NOTED = {"at": "UTC_TIMESTAMP(6)", "process": "@process", "session": "CONNECTION_ID()"}
_OWNER = (
    f"(SELECT worker.{{}} FROM {Dispatch._meta.db_table} AS chain "
    f"JOIN {Worker._meta.db_table} AS worker ON worker.id = chain.owner WHERE chain.run_id = NEW.run_id)"
)


def is_kept() -> bool:
    """Whether the current database can keep the record."""
    return connection.vendor != "sqlite"


def install() -> None:
    """Begin to keep the record in the current database."""
    statements = _on_postgres() if connection.vendor == "postgresql" else _on_mariadb()
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _on_postgres() -> Iterator[str]:
    yield _POSTGRES
    for model in WATCHED:
        yield (
            f"CREATE TRIGGER note_writer AFTER INSERT OR UPDATE OR DELETE ON {model._meta.db_table} "
            "FOR EACH ROW EXECUTE FUNCTION note_writer()"
        )


def _on_mariadb() -> Iterator[str]:
    yield _MARIADB
    for model, operation in itertools.product(WATCHED, ("INSERT", "UPDATE", "DELETE")):
        table, values = model._meta.db_table, dict(_NOTED)
        if operation == "INSERT" and model is HistoryEvent:
            values |= {"owner": _OWNER.format("name"), "dead": _OWNER.format("dead")}
        elif operation != "DELETE" and model is Entry:
            values |= {"kind": "NEW.kind"}
        values |= {"relation": f"'{table}'", "operation": f"'{operation}'"}
        yield (
            f"CREATE TRIGGER note_{operation.lower()}_{table} AFTER {operation} ON {table} FOR EACH ROW "
            f"IF @process IS NOT NULL THEN INSERT INTO trail ({', '.join(values)}) "
            f"VALUES ({', '.join(values.values())}); END IF"
        )


def steps(process: str, *, besides: Collection[int] = ()) -> list[Step]:
    """What a process has committed, in order."""
    found = _select("process = %s ORDER BY id", [process])
    return [step for step in found if step.id not in besides]


def ids(process: str) -> set[int]:
    return {step.id for step in steps(process)}


def strangers(process: str, pid: int) -> list[Step]:
    """History events that this process wrote into runs which were not its own, or under a dead worker's name."""
    return _select(
        "process = %s AND relation = %s AND operation = 'INSERT' AND (owner IS NULL OR dead OR owner NOT LIKE %s)",
        [process, HISTORY, f"%:{pid}"],
    )


def rewritten() -> int:
    """How many history events were changed or deleted by workers: none may be."""
    return len(_select("relation = %s AND operation <> 'INSERT'", [HISTORY]))


def _select(condition: str, params: Sequence[str]) -> list[Step]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {_COLUMNS} FROM trail WHERE {condition}", params)
        found = [Step(*row) for row in cursor.fetchall()]
    return [step if step.at.tzinfo else step._replace(at=step.at.replace(tzinfo=UTC)) for step in found]
