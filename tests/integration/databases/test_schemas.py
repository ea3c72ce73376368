"""Tenants as schemas: an activity finds the tables of the tenant whose workflow it belongs to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, connections, transaction
from django.db.backends.signals import connection_created

from django_durable import durable, propagation
from django_durable.contrib import schemas
from django_durable.contrib.schemas import current_schema, using_schema
from django_durable.models import WorkflowRun
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.worker.running import DEADLINE

pytestmark = pytest.mark.postgres

TENANTS = ("acme", 'Globex "Inc"')


@pytest.fixture(autouse=True)
def tenants(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each has a table of its own beside the shared one."""
    if connection.vendor != "postgresql":
        yield
        return
    monkeypatch.setattr(propagation, "_users", {})
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        for name in TENANTS:
            cursor.execute(f'CREATE SCHEMA "{name.replace(chr(34), 2 * chr(34))}"')
            cursor.execute(
                f'CREATE TABLE "{name.replace(chr(34), 2 * chr(34))}".{quote(Entry._meta.db_table)} '
                f"(LIKE {quote(Entry._meta.db_table)} INCLUDING ALL)"
            )
    schemas.carry()
    yield
    connection_created.disconnect(dispatch_uid="durable_schemas")
    for one in connections.all(initialized_only=True):
        one.execute_wrappers[:] = [wrapper for wrapper in one.execute_wrappers if wrapper is not schemas._look_there]
    with connection.cursor() as cursor:
        cursor.execute("RESET search_path")
        for name in TENANTS:
            cursor.execute(f'DROP SCHEMA "{name.replace(chr(34), 2 * chr(34))}" CASCADE')


def entries() -> dict[str | None, list[str]]:
    """What each tenant, and nobody, has."""
    found = {}
    for name in (*TENANTS, None):
        with using_schema(name):
            found[name] = sorted(Entry.objects.values_list("key", flat=True))
    return found


def test_activities_of_all_kinds_work_in_the_schema_of_their_start(make_worker):
    make_worker()
    handles = []
    for round in range(3):
        for name in (*TENANTS, None):
            with using_schema(name):
                handles.append(durable.start_workflow(workflows.effects, f"{name}{round}", 2))  # atomic and not
                handles.append(durable.start_workflow(workflows.call, "flows.record_async", [f"{name}{round}/a"]))
    for handle in handles:
        handle.result(timeout=DEADLINE)
    expected = {
        name: sorted(f"{name}{round}/{part}" for round in range(3) for part in ("0", "1", "a"))
        for name in (*TENANTS, None)
    }
    assert entries() == expected
    assert WorkflowRun.objects.count() == 18  # in the shared schema, whoever started them


def test_children_have_the_schema_of_their_parent(make_worker):
    make_worker()
    with using_schema("acme"):
        handle = durable.start_workflow(workflows.parent_by_name, "flows.effects", ["child", 2], {})
    handle.result(timeout=DEADLINE)
    assert entries() == {"acme": ["child/0", "child/1"], TENANTS[1]: [], None: []}


def test_a_rollback_leaves_nobody_in_the_wrong_schema():
    with using_schema("acme"), transaction.atomic():
        Entry.objects.create(kind="k", key="undone")
        with using_schema(TENANTS[1]):
            Entry.objects.create(kind="k", key="undone too")
        transaction.set_rollback(True)
    Entry.objects.create(kind="k", key="nobody's")
    with transaction.atomic(), using_schema("acme"):
        Entry.objects.create(kind="k", key="kept")
        with using_schema(None):
            Entry.objects.create(kind="k", key="nobody's too")
    assert entries() == {"acme": ["kept"], TENANTS[1]: [], None: ["nobody's", "nobody's too"]}


def test_a_start_that_is_rolled_back_with_the_tenants_rows_never_was():
    with using_schema("acme"), transaction.atomic():
        Entry.objects.create(kind="k", key="order")
        durable.start_workflow(workflows.echo, 1)
        transaction.set_rollback(True)
    assert entries()["acme"] == []
    assert not WorkflowRun.objects.exists()


def test_a_new_connection_knows_its_schema():
    with using_schema("acme"):
        connection.close()
        Entry.objects.create(kind="k", key="1")
    connection.close()
    Entry.objects.create(kind="k", key="2")
    assert entries() == {"acme": ["1"], TENANTS[1]: [], None: ["2"]}


def test_async_code_has_its_schema_too():
    async def create() -> str | None:
        with using_schema("acme"):
            await Entry.objects.acreate(kind="k", key="async")
            return await sync_to_async(current_schema)()

    assert async_to_sync(create)() == "acme"
    assert entries()["acme"] == ["async"]
    assert current_schema() is None
