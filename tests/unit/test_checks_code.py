"""Checks of workflow code: what cannot be replayed is found with its line and the right way, the rest is left alone."""

from __future__ import annotations

import importlib.util
import linecache
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from django.test import override_settings

from django_durable.checks import workflows as code_checks
from django_durable.checks.reading import Finding, Reader
from django_durable.definitions.registry import Registry
from tests.flows import workflows as flows

HEAD = """
import asyncio
import datetime as dt
import os
import pathlib
import random
import subprocess
import threading
import time
import urllib.request
import uuid
from datetime import date, datetime
from os import environ
from pathlib import Path
from random import choice
from time import sleep

from asgiref.sync import sync_to_async
from django.core.mail import send_mail
from django.db import connection, transaction
from django.utils import timezone
from django.utils.timezone import now

from django_durable import Context, durable
from example_project.shop.models import Order
from tests.flows.activities import double
"""

Write = Callable[..., ModuleType]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Makes a module of a text, behind the usual imports."""

    def make(text: str, head: str = HEAD) -> ModuleType:
        path = tmp_path / f"flows_{len(list(tmp_path.iterdir()))}.py"
        path.write_text(head + textwrap.dedent(text))
        spec = importlib.util.spec_from_file_location(f"checked.{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    yield make
    linecache.clearcache()


def read(module: ModuleType, name: str = "flow") -> list[Finding]:
    reader = Reader(knows_workflow={"shop.known"}.__contains__, knows_activity={"shop.known"}.__contains__)
    return [*reader.read(getattr(module, name)), *reader.read_modules()]


def ids(module: ModuleType, name: str = "flow") -> list[str]:
    return [one.id.removeprefix("durable.") for one in read(module, name)]


@pytest.mark.parametrize(
    ("code", "id"),
    [
        ("datetime.now()", "W101"),
        ("dt.datetime.now(dt.UTC)", "W101"),
        ("dt.datetime.utcnow()", "W101"),
        ("date.today()", "W101"),
        ("time.time()", "W101"),
        ("time.monotonic()", "W101"),
        ("timezone.now()", "W101"),
        ("now()", "W101"),
        ("random.random()", "W102"),
        ("choice([1, 2])", "W102"),
        ("os.urandom(8)", "W102"),
        ("uuid.uuid4()", "W103"),
        ("time.sleep(1)", "W104"),
        ("sleep(1)", "W104"),
        ("Order.objects.get(pk=1)", "W105"),
        ("[order async for order in Order.objects.all()]", "W105"),
        ("await Order.objects.aget(pk=1)", "W105"),
        ("Order(pk=1).save()", "W105"),
        ("transaction.atomic()", "W105"),
        ("connection.cursor()", "W105"),
        ("urllib.request.urlopen('https://example.com')", "W106"),
        ("send_mail('a', 'b', 'c', [])", "W106"),
        ("await asyncio.open_connection('localhost', 80)", "W106"),
        ("open('x')", "W107"),
        ("Path('x').write_text('y')", "W107"),
        ("pathlib.Path('x').read_bytes()", "W107"),
        ("os.path.exists('x')", "W107"),
        ("threading.Thread()", "W108"),
        ("subprocess.run(['ls'])", "W108"),
        ("os.system('ls')", "W108"),
        ("await asyncio.to_thread(print)", "W108"),
        ("await sync_to_async(print)()", "W108"),
        ("asyncio.get_running_loop().run_in_executor(None, print)", "W108"),
        ("os.environ['A']", "W109"),
        ("environ.get('A')", "W109"),
        ("os.getenv('A')", "W109"),
        ("double(1)", "W112"),
        ("await ctx.activity(durable.activity_named('shop.unknown'))", "W113"),
        ("await ctx.child_workflow(durable.workflow_named('shop.unknown'))", "W113"),
    ],
)
def test_what_cannot_be_replayed_is_found(write, code, id):
    module = write(f"async def flow(ctx: Context) -> None:\n    x = {code}\n")
    (finding,) = read(module)
    assert finding.id == f"durable.{id}"
    assert finding.file == module.__file__
    lines = Path(finding.file).read_text().splitlines()
    assert code in lines[finding.line - 1]
    assert finding.hint.endswith(".")


@pytest.mark.parametrize(
    "code",
    [
        "ctx.now()",
        "ctx.random.choice([1, 2])",
        "ctx.uuid4()",
        "await ctx.sleep(1)",
        "await asyncio.sleep(1)",
        "await ctx.activity(double, 1)",
        "ctx.side_effect(lambda: os.environ['A'])",
        "ctx.side_effect(os.getpid)",
        "dt.timedelta(days=1)",
        "datetime.fromisoformat('2026-03-01')",
        "datetime(2026, 3, 1)",
        "uuid.UUID(int=1)",
        "random.Random(7)",
        "Path('x') / 'y'",
        "os.path.join('x', 'y')",
        "time.strptime('1', '%d')",
        "Order(pk=1)",
        "{}.get('open')",
        "await ctx.activity(durable.activity_named('shop.known'))",
        "print",
    ],
)
def test_what_can_be_replayed_is_left_alone(write, code):
    assert ids(write(f"async def flow(ctx: Context) -> None:\n    x = {code}\n")) == []


def test_local_names_are_what_they_are_locally(write):
    module = write(
        """
        async def flow(ctx: Context, open, time) -> None:
            now = ctx.now
            now(), open("x"), time.time()

        async def imports(ctx: Context) -> None:
            import time as clock
            from random import randint
            clock.time(), randint(1, 2)
        """
    )
    assert ids(module) == []
    assert sorted(ids(module, "imports")) == ["W101", "W102"]


def test_functions_of_the_module_are_followed_and_read_once(write):
    module = write(
        """
        def deeper() -> float:
            return time.time()

        def helper() -> float:
            return deeper() + deeper()

        def never_called() -> None:
            open("x")

        async def flow(ctx: Context) -> None:
            @ctx.on_signal("x")
            def handler() -> None:
                uuid.uuid4()

            helper()
            flow(ctx)
        """
    )
    assert sorted(ids(module)) == ["W101", "W103"]


def test_handlers_that_swallow_everything_are_found(write):
    module = write(
        """
        async def flow(ctx: Context) -> None:
            try:
                await ctx.sleep(1)
            except:
                pass
            try:
                await ctx.sleep(1)
            except (ValueError, BaseException):
                def inner():
                    raise ValueError
            try:
                await ctx.sleep(1)
            except BaseException:
                if ctx.now():
                    raise
            try:
                await ctx.sleep(1)
            except Exception:
                pass
        """
    )
    assert [(one.id, "except" in one.what) for one in read(module)] == [("durable.W110", True)] * 2


def test_calls_that_are_not_awaited_are_found(write):
    module = write(
        """
        async def flow(ctx: Context) -> None:
            ctx.activity(double, 1)
            ctx.sleep(1)
            ctx.map(double, [1])
            ctx.child_workflow(None)
            await ctx.sleep(2)
            task = asyncio.create_task(ctx.sleep(1))
            ctx.set_progress("x")
            ctx.compensate(double, 1)
            task.cancel()
        """
    )
    assert ids(module) == ["W111"] * 4


def test_names_outside_of_functions_are_looked_up_too(write):
    module = write(
        """
        CHARGE = durable.activity_named("shop.gone")

        async def flow(ctx: Context) -> None:
            await ctx.activity(CHARGE)
        """
    )
    (finding,) = read(module)
    assert "'shop.gone'" in finding.what


@pytest.mark.parametrize(
    ("comment", "kept"),
    [
        ("# durable: ignore", False),
        ("# durable: ignore[W101]", False),
        ("# durable:ignore[W105, W101] because", False),
        ("# durable: ignore[W102]", True),
        ("# noqa", True),
    ],
)
def test_a_comment_says_that_it_is_meant(write, comment, kept):
    module = write(f"async def flow(ctx: Context) -> None:\n    x = time.time()  {comment}\n")
    assert bool(ids(module)) is kept


def test_code_without_a_source_is_left_alone(write):
    module = write("async def flow(ctx: Context) -> None:\n    time.time()\n")
    Path(str(module.__file__)).unlink()
    linecache.clearcache()
    assert ids(module) == []


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    fresh = Registry()
    monkeypatch.setattr(code_checks, "registry", fresh)
    return fresh


def test_a_check_names_the_workflow_and_the_line(registry, monkeypatch):
    registry.add_workflow(flows.hangs)
    monkeypatch.setattr(
        Reader, "read", lambda self, function: iter([Finding("durable.W104", "a.py", 7, "sleeps", "Do.")])
    )
    (message,) = code_checks.check_code(None)
    assert (message.id, message.msg, message.hint) == ("durable.W104", "Workflow flows.hangs sleeps.", "Do.")
    assert str(message).startswith("a.py:7: (durable.W104)")
    with override_settings(SILENCED_SYSTEM_CHECKS=["durable.W104"]):
        assert message.is_silenced()


def test_types_that_payloads_cannot_carry_are_found(registry, write):
    module = write(
        """
        from django_durable.definitions.activity import ActivityDefinition
        from django_durable.definitions.workflow import WorkflowDefinition

        def takes(value: "Missing") -> None: ...

        async def gives(ctx: Context) -> complex: ...

        async def fits(ctx: Context, day: date) -> dict[str, int]: ...

        class Row: ...

        def looks(rows: list[Row]) -> None: ...

        LOOKS = ActivityDefinition(looks, name="shop.looks")
        ACTIVITY = ActivityDefinition(takes, name="shop.takes")
        GIVES = WorkflowDefinition(gives, name="shop.gives")
        FITS = WorkflowDefinition(fits, name="shop.fits")
        """
    )
    registry.add_activity(module.ACTIVITY)
    registry.add_workflow(module.FITS)
    registry.add_activity(module.LOOKS)
    message, other = code_checks.check_annotations(None)
    assert message.id == other.id == "durable.W114"
    assert "shop.looks: the annotation of parameter 'rows'" in other.msg
    assert "Row cannot be read back" in other.msg
    assert "shop.takes" in message.msg
    assert "Missing" in message.msg
    assert str(message.obj).startswith(str(module.__file__))
