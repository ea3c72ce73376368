"""Runs a program straight, without the instance cache, and with workers that die: it must make no difference."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any, NamedTuple
from unittest import mock

from django.db import transaction
from django.test import override_settings

from django_durable import instrumentation
from django_durable.client import WorkflowHandle
from django_durable.history import events
from django_durable.models import WorkflowRun
from django_durable.store import history
from django_durable.testing import Environment, assert_replays, environments
from tests.integration.worker.invariants import assert_family, assert_invariants
from tests.programs import deaths, outside, telling
from tests.programs.generating import Program
from tests.programs.interpreter import AGAIN, interpret
from tests.programs.invariants import Invariants
from tests.programs.legality import assert_legal
from tests.programs.outside import World
from tests.programs.telling import Told

MOST_ROUNDS = 2_000
SEED = 7


class Figures(NamedTuple):
    """What checking has come to."""

    programs: int = 0
    runs: int = 0
    events: int = 0
    deaths: int = 0
    looks: int = 0  # at all tables, for the invariants

    def __add__(self, other: tuple[Any, ...]) -> Figures:
        return Figures(*(one + another for one, another in zip(self, other, strict=True)))


def check(program: Program, seed: int) -> Figures:
    """Raises ``AssertionError`` if it matters how the program is run. ``seed``: when workers die."""
    straight, looks = _run(program)
    assert_legal(straight)
    with override_settings(DURABLE={"INSTANCE_CACHE_SIZE": 0}):
        uncached, more = _run(program)
    _compare("without the instance cache", uncached, straight)
    dying = deaths.Deaths(seed)
    with deaths.happening(dying):
        crashed, most = _run(program)
    if program.ties:
        assert_legal(crashed)
    else:
        _compare("when workers die", telling.in_any_order(crashed), telling.in_any_order(straight))
    count = sum(len(entries) for entries in straight.runs.values())
    return Figures(1, len(straight.runs), count, dying.count, looks + more + most)


def _compare(when: str, found: Told, expected: Told) -> None:
    """Raises ``AssertionError`` that says what is different first."""
    for label in expected.runs.keys() | found.runs.keys():
        one, other = found.runs.get(label), expected.runs.get(label)
        if one != other:
            raise AssertionError(f"Run {label} is another {when}:\n{_lines(one)}\ninstead of\n{_lines(other)}")
    assert found == expected, f"It ends differently {when}"


def _lines(entries: list[telling.Entry] | None) -> str:
    if entries is None:
        return "  no such run"
    return "\n".join(f"  {number} {entry}" for number, entry in enumerate(entries, 1))


def _run(program: Program) -> tuple[Told, int]:
    """What becomes of the program, and how often everything was looked at. Nothing of it stays in the database."""
    with ExitStack() as stack:
        stack.enter_context(transaction.atomic())
        stack.callback(transaction.set_rollback, True)
        env = stack.enter_context(_environment())
        world = stack.enter_context(outside.world())
        invariants = Invariants()
        look = stack.enter_context(_looking(invariants))
        definition = interpret.using(retry=AGAIN if program.tries > 1 else None)
        began = env.now()
        env.start(definition, program.body, "0", program.ties)
        _drive(env, world, look)
        for run in WorkflowRun.objects.all():
            _check_replay(WorkflowHandle(run.workflow_id, run.pk))
        return telling.tell(began), invariants.looks


@contextmanager
def _environment() -> Iterator[Environment]:
    """One whose clock never has to catch up with the real one, and whose runs all have the same seed."""
    with (
        mock.patch.object(environments, "LEAD", timedelta(days=1)),
        mock.patch.object(secrets, "randbits", return_value=SEED),
        environments.environment() as env,
    ):
        yield env


@contextmanager
def _looking(invariants: Invariants) -> Iterator[Callable[[], None]]:
    """Look after each commit of a worker; what is given looks when nothing is left to do."""
    failed: list[AssertionError] = []

    def hear(**_: Any) -> None:
        try:
            invariants.look()
        except AssertionError as error:  # a receiver's errors are logged and swallowed
            failed.append(error)

    def look() -> None:
        if failed:
            raise failed[0]
        invariants.look(idle=True)

    instrumentation.flush_done.connect(hear, weak=False)
    try:
        yield look
    finally:
        instrumentation.flush_done.disconnect(hear)


def _drive(env: Environment, world: World, look: Callable[[], None]) -> None:
    """Let time pass until every run has ended, and do what is due outside."""
    env.run_until_idle()
    for _ in range(MOST_ROUNDS):
        look()
        place = WorkflowRun.objects.filter(open_workflow_id__isnull=False).values_list("workflow_id", "pk").first()
        if place is None:
            return
        due = world.next_due
        if due is None:
            env.work_for(*place, has_come=lambda: world.next_due is not None)
        elif due > env.now():
            env.advance(due - env.now())
        else:
            world.run_errand()
            env.run_until_idle()
    raise AssertionError("This program goes on for ever.")


def _check_replay(handle: WorkflowHandle[Any]) -> None:
    assert_invariants(handle)
    assert_family(handle)
    recorded = history.read([handle.run_id])[handle.run_id]
    if events.ended_from_outside(recorded[-1].event) is None:
        assert_replays(handle)
