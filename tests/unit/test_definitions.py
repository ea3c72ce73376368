"""Declarations: what may be a workflow or an activity, and what is refused with which advice."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from django_durable import Context, Retry
from django_durable.api import Durable
from django_durable.definitions.activity import ActivityDefinition, ActivityOptions
from django_durable.definitions.registry import Registry
from django_durable.definitions.workflow import WorkflowCall, WorkflowDefinition, WorkflowOptions
from django_durable.exceptions import DefinitionError, PayloadError, UnknownDefinition

ROOT = Path(__file__).resolve().parents[2]


class Own(Durable):
    def __init__(self) -> None:
        self.registry = Registry()


durable = Own()


@durable.activity
def charge(order_id: int, cents: int = 5) -> str:
    """Take the money."""
    return f"{order_id}:{cents}"


@durable.activity(name="shop.fetch", queue="net")
async def fetch(url: str) -> int:
    return len(url)


@durable.workflow
async def process(ctx: Context, order_id: int) -> dict[str, int]:
    return {"order": order_id}


@durable.workflow(name="shop.refund", version="2", queue="money", priority=5)
async def refund(ctx: Context) -> None: ...


def plain(order_id: int) -> None: ...


async def coroutine(order_id: int) -> None: ...


async def without_parameters() -> None: ...


async def only_keywords(*, ctx: Context) -> None: ...


async def only_star(*ctx: Context) -> None: ...


async def other_name(run: Context, order_id: int) -> None: ...


async def async_generator(ctx: Context) -> Any:
    yield 1


def generator(order_id: int) -> Any:
    yield 1


class Shop:
    def method(self) -> None: ...

    @staticmethod
    def static() -> None: ...


def nested() -> Callable[[], None]:
    def inner() -> None: ...

    return inner


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@durable.activity(name="wrapped")
@logged
def wrapped(order_id: int) -> int:
    return order_id


NOT_DECLARABLE = [
    (lambda: None, "lambda"),
    (nested(), "inside another function"),
    (Shop.method, "a method"),
    (Shop.__dict__["static"], "methods"),
    (functools.partial(plain, 1), "def"),
    (print, "def"),
    (Shop, "def"),
    (charge, "def"),
]


@pytest.mark.parametrize(("function", "told"), NOT_DECLARABLE)
@pytest.mark.parametrize("decorator", [durable.activity, durable.workflow])
def test_what_other_processes_could_not_find_again_is_refused(decorator: Any, function: Any, told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        decorator(function)
    with pytest.raises(DefinitionError, match=told):
        decorator(name="x")(function)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (plain, "must be an async def"),
        (async_generator, "has a yield.* returns its result once"),
        (without_parameters, r"async def without_parameters\(ctx\)"),
        (only_keywords, "context as its first parameter"),
        (only_star, "context as its first parameter"),
        (coroutine, r"async def coroutine\(ctx: Context, order_id, ...\)"),
    ],
)
def test_an_impossible_workflow_is_refused_with_its_place(function: Any, told: str) -> None:
    with pytest.raises(DefinitionError, match=told) as caught:
        durable.workflow(function)
    assert f"{__file__}:{function.__code__.co_firstlineno}" in str(caught.value)


def test_a_context_may_have_another_name_if_it_is_annotated() -> None:
    definition = WorkflowDefinition(other_name, name="other")
    assert definition.decode_input(definition.encode_input((1,), {})) == ((1,), {})


def test_generators_are_no_activities() -> None:
    with pytest.raises(DefinitionError, match="Return a list"):
        durable.activity(generator)


def test_atomic_needs_a_plain_def() -> None:
    with pytest.raises(DefinitionError, match="atomic=True needs a plain def"):
        durable.activity(atomic=True)(coroutine)
    with pytest.raises(DefinitionError, match="atomic=True needs a plain def"):
        fetch.using(atomic=True)


def test_an_activity_keeps_its_function_name_and_documentation() -> None:
    assert (charge.name, charge.__name__, charge.__doc__) == ("unit.charge", "charge", "Take the money.")
    assert charge.__module__ == __name__
    assert charge.is_async is False
    assert fetch.is_async is True


def test_calling_a_definition_calls_its_function() -> None:
    assert charge(1, cents=2) == "1:2"
    assert asyncio.run(fetch("abc")) == 3
    assert asyncio.run(process(None, 7)) == {"order": 7}


def test_a_wrapped_function_keeps_its_signature_and_place() -> None:
    assert wrapped.encode_input((1,), {}) == charge.encode_input((1,), {})
    assert wrapped.place.file == __file__
    with pytest.raises(PayloadError, match="order_id"):
        wrapped.encode_input(("x",), {})


def test_options_come_from_the_declaration() -> None:
    assert charge.options == ActivityOptions()
    assert charge.options.retry.max_attempts == 6
    assert fetch.options == ActivityOptions(queue="net")
    assert refund.options == WorkflowOptions(queue="money", priority=5)
    assert (refund.name, refund.version) == ("shop.refund", "2")
    assert (process.options, process.version) == (WorkflowOptions(), "")


def test_using_gives_a_configured_copy_and_accumulates() -> None:
    once = charge.using(queue="slow")
    twice = once.using(start_to_close=timedelta(seconds=5)).using(priority=-100)
    assert twice.options == ActivityOptions(queue="slow", start_to_close=timedelta(seconds=5), priority=-100)
    assert once.options == ActivityOptions(queue="slow")
    assert charge.options == ActivityOptions()
    assert (twice.name, twice.function) == (charge.name, charge.function)
    assert charge.using(name="shop.other").name == "shop.other"

    started = process.using(workflow_id="order-1").using(on_conflict="use_existing")
    assert started.options == WorkflowOptions(workflow_id="order-1", on_conflict="use_existing")
    assert process.options.workflow_id is None


@pytest.mark.parametrize(
    ("definition", "options", "told"),
    [
        (charge, {"que": "x"}, "Did you mean 'queue'"),
        (charge, {"priority": True}, "-100 to 100"),
        (charge, {"start_to_close": 30}, "timedelta"),
        (charge, {"start_to_close": timedelta(0)}, "longer than zero"),
        (charge, {"retry": None}, r"Retry\(max_attempts=1\)"),
        (charge, {"atomic": "yes"}, "True or False"),
        (charge, {"at_most_once": 1}, "True or False"),
        (charge, {"queue": ""}, "queue must not be empty"),
        (charge, {"name": ""}, "must not be empty"),
        (process, {"id": "x"}, "no option 'id'"),
        (process, {"workflowid": "x"}, "Did you mean 'workflow_id'"),
        (process, {"workflow_id": ""}, "must not be empty"),
        (process, {"workflow_id": "x" * 256}, "at most 255"),
        (process, {"workflow_id": "a\x00"}, "printable"),
        (process, {"workflow_id": "a\ud800"}, "printable"),
        (process, {"workflow_id": 5}, "must be text, not 5"),
        (process, {"priority": 101}, "-100 to 100"),
        (process, {"on_conflict": "use_exsting"}, "Did you mean 'use_existing'"),
        (process, {"on_reuse": None}, "on_reuse"),
        (process, {"start_delay": 5}, "timedelta"),
        (process, {"start_delay": timedelta(seconds=-1)}, "must not be negative"),
        (process, {"start_at": "tomorrow"}, "must be a datetime"),
        (process, {"start_at": datetime(2030, 1, 1)}, r"needs a time zone.* Use datetime\.now\(UTC\)"),
        (process, {"start_at": datetime(2030, 1, 1, tzinfo=UTC), "start_delay": timedelta(1)}, "exclude each other"),
        (process, {"run_timeout": timedelta(0)}, "longer than zero"),
        (process, {"retry": 3}, "must be a Retry or None"),
        (process, {"retry": Retry(when=lambda error: True)}, "cannot be Retry.when=.* top level of a module"),
        (charge, {"retry": Retry(when=functools.partial(isinstance, ()))}, "cannot be Retry.when="),
        (charge, {"retry": Retry(when=nested())}, "inner.* cannot be Retry.when="),  # type: ignore[arg-type]
        (process, {"execution_timeout": 60}, "timedelta"),
    ],
)
def test_wrong_options_are_refused_with_advice(definition: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(DefinitionError, match=told) as caught:
        definition.using(**options)
    assert definition.name in str(caught.value) or "name" in options


@pytest.mark.parametrize(
    ("options", "told"),
    [({"workflow_id": "x"}, "no option 'workflow_id'"), ({"version": "v" * 65}, "at most 64"), ({"name": 5}, "text")],
)
def test_wrong_options_of_a_declaration_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        durable.workflow(**options)(other_name)


@pytest.mark.parametrize("workflow_id", ["x", "x" * 255, "order-5 / ä / 注文 / 🎁"])
def test_workflow_ids_are_free_text(workflow_id: str) -> None:
    assert process.using(workflow_id=workflow_id).options.workflow_id == workflow_id


def test_the_context_is_no_part_of_the_input() -> None:
    payload = process.encode_input((7,), {})
    assert bytes(payload.data) == b'{"order_id":7}'
    assert process.decode_input(payload) == ((7,), {})
    assert process.decode_result(process.encode_result({"order": 7})) == {"order": 7}


def test_wrong_arguments_of_a_start_are_refused_with_workflow_and_parameter() -> None:
    with pytest.raises(TypeError, match=r"unit.process.*'order_id'"):
        process.encode_input((), {})
    with pytest.raises(PayloadError, match=r"unit.process.*order_id"):
        process.encode_input(("x",), {})


def test_a_call_is_a_start_as_a_value() -> None:
    using = refund.using(workflow_id="a")
    assert using.call() == WorkflowCall(definition=using, args=(), kwargs={})
    assert process.call(order_id=1).kwargs == {"order_id": 1}


def test_name_and_version_make_one_key_that_no_other_name_can_make() -> None:
    assert process.key == "unit.process"
    assert refund.key != refund.name
    assert {refund.name, refund.version} == set(refund.key.split("\t"))
    with pytest.raises(DefinitionError, match="printable"):
        WorkflowDefinition(other_name, name=refund.key)


CODE = "async def body(ctx, order_id): return {number}\n"


def test_the_fingerprint_changes_with_the_source_of_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    prints = []
    for number in (1, 2):
        (tmp_path / f"durable_code_{number}.py").write_text(CODE.format(number=number))
        body = __import__(f"durable_code_{number}").body
        prints.append(WorkflowDefinition(body, name="x").fingerprint)
        assert WorkflowDefinition(body, name="y").fingerprint == prints[-1]
        assert len(prints[-1]) == 16
        int(prints[-1], 16)
    assert prints[0] != prints[1]


def test_without_source_the_fingerprint_changes_with_the_code() -> None:
    def made(number: int) -> WorkflowDefinition[Any, Any]:
        space: dict[str, Any] = {"__name__": "durable_no_such_module"}
        exec(CODE.format(number=number), space)
        return WorkflowDefinition(space["body"], name="x")

    assert made(1).fingerprint == made(1).fingerprint
    assert made(1).fingerprint != made(2).fingerprint


def test_a_definition_named_by_text_is_looked_up_when_used() -> None:
    own = Own()
    workflow, activity = own.workflow_named("unit.process"), own.activity_named("unit.charge")
    assert (workflow.name, activity.name) == ("unit.process", "unit.charge")
    with pytest.raises(UnknownDefinition, match=r"unit\.process"):
        workflow.encode_input((1,), {})
    with pytest.raises(UnknownDefinition, match=r"unit\.charge"):
        activity.using(queue="x").encode_input((1,), {})

    own.registry.add_workflow(process)
    own.registry.add_activity(charge)
    assert workflow.encode_input((1,), {}) == process.encode_input((1,), {})
    assert workflow.decode_result(process.encode_result({"order": 1})) == {"order": 1}
    assert (workflow.fingerprint, workflow.version, workflow.key) == (process.fingerprint, "", process.key)
    assert activity.function is charge.function
    assert (activity(1), activity.is_async, activity.place) == ("1:5", False, charge.place)
    for named, declared in ((workflow, process), (activity, charge)):
        properties = [name for name, value in vars(type(declared)).items() if isinstance(value, property)]
        assert {name: getattr(named, name) for name in properties} == {
            name: getattr(declared, name) for name in properties
        }


def test_a_definition_named_by_text_takes_options() -> None:
    workflow = durable.workflow_named("shop.refund").using(workflow_id="a").using(priority=1)
    assert workflow.options == WorkflowOptions(queue="money", workflow_id="a", priority=1)
    assert workflow.call().definition is workflow
    activity = durable.activity_named("shop.fetch").using(retry=Retry(max_attempts=1))
    assert activity.options == ActivityOptions(queue="net", retry=Retry(max_attempts=1))
    assert isinstance(workflow, WorkflowDefinition)
    assert isinstance(activity, ActivityDefinition)


def test_the_service_verbs_have_async_twins() -> None:
    verbs = [name for name in vars(Durable) if name.endswith(("_workflow", "_workflows", "_workflow_status"))]
    verbs = [name for name in verbs if not name.startswith(("_", "a"))]
    assert sorted(verbs) == [
        "cancel_workflow",
        "cancel_workflows",
        "get_workflow",
        "get_workflow_status",
        "pause_workflow",
        "pause_workflows",
        "query_workflow",
        "resume_workflow",
        "resume_workflows",
        "signal_workflow",
        "signal_workflows",
        "start_workflow",
        "start_workflows",
        "terminate_workflow",
        "terminate_workflows",
        "update_workflow",
    ]
    for name in verbs:
        twin = getattr(Durable, f"a{name}")
        assert asyncio.iscoroutinefunction(twin)
        assert twin.__name__ == f"a{name}"
        assert twin.__doc__ == getattr(Durable, name).__doc__


def test_an_async_twin_calls_its_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Client:
        @staticmethod
        def start_workflow(*given: Any) -> str:
            asked.append(given)
            return "handle"

    monkeypatch.setattr("django_durable.api.client", Client)
    started: Coroutine[Any, Any, Any] = durable.astart_workflow(process, 1)
    assert asyncio.run(started) == "handle"
    assert durable.start_workflow(process, order_id=2) == "handle"
    assert asked == [(process, (1,), {}), (process, (), {"order_id": 2})]


BARE = """
import sys
from django_durable import durable, Context, Retry
@durable.activity
def charge(order_id: int) -> str: ...
@durable.workflow
async def process(ctx: Context) -> None: ...
durable.signal("rated", int)(5)
charge.encode_input((1,), {}); process.encode_input((), {})
loaded = {"django_durable.models", "django_durable.client", "django.db.models"} & set(sys.modules)
assert not loaded, loaded
"""


def test_declaring_needs_no_configured_django() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", BARE], cwd=ROOT, env={"PATH": ""}, check=True, timeout=60)
