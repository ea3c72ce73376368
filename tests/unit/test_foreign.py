"""Which statements write."""

from __future__ import annotations

import pytest
from psycopg import sql

from django_durable.worker import foreign


@pytest.mark.parametrize(
    "statement",
    [
        'INSERT INTO "a" VALUES (1)',
        "  update a set b = 1",
        "-- why\n/* and\nhow */ DELETE FROM a",
        "REPLACE INTO a VALUES (1)",
        "TRUNCATE a",
        "CREATE TABLE a (b int)",
        "CALL proc()",
        "WITH gone AS (DELETE FROM a RETURNING *) SELECT * FROM gone",
        'with new as (select 1) update "a" as x set b = 1',
        "WITH new AS (SELECT 1) INSERT INTO a SELECT * FROM new",
        sql.SQL("INSERT INTO {} VALUES (1)").format(sql.Identifier("a")),
    ],
)
def test_a_statement_that_writes(statement):
    assert foreign.writes(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM a WHERE b = 'INSERT INTO a'",
        "SELECT * FROM updates FOR UPDATE",
        "WITH old AS (SELECT * FROM a FOR UPDATE SKIP LOCKED) SELECT * FROM old",
        "(SELECT 1) UNION (SELECT 2)",
        "SELECT deleted FROM a",
        "BEGIN",
        'SAVEPOINT "s1"',
        "PRAGMA foreign_keys",
        "EXPLAIN SELECT 1",
        "SET TIME ZONE 'UTC'",
        sql.SQL("SELECT * FROM {}").format(sql.Identifier("a")),
    ],
)
def test_a_statement_that_only_reads(statement):
    assert not foreign.writes(statement)
