"""Random workflows under random inputs: every prefix of their history, continued, gives the same history.

A program is a small tree, the input of one workflow that interprets it. Every step that it takes goes into a trace,
which is its result: so two runs with the same history have also seen the same things in the same order.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from django_durable.engine.context import Context
from django_durable.exceptions import ActivityError
from django_durable.history import events, failures
from tests.unit.engine_harness import STEP, Run, payload, workflow

LABELS = st.sampled_from(["a", "b", "c"])
NAMES = st.sampled_from(["go", "stop"])
SECONDS = st.sampled_from([0, 0.5, 1, 3, 10])

LEAVES = st.one_of(
    st.tuples(st.just("activity"), LABELS),
    st.tuples(st.just("sleep"), SECONDS),
    st.tuples(st.just("signal"), NAMES, st.one_of(st.none(), SECONDS)),
    st.tuples(st.just("draw")),
    st.tuples(st.just("effect")),
    st.tuples(st.just("fail")),
)


def _branches(nodes: Any) -> Any:
    several = st.lists(nodes, min_size=1, max_size=3)
    return st.one_of(
        *(
            st.tuples(st.just(kind), several)
            for kind in ("sequence", "gather", "race", "group", "completed", "queue", "locked")
        ),
        st.tuples(st.just("limit"), nodes, SECONDS),
        st.tuples(st.just("wait_for"), nodes, SECONDS),
        st.tuples(st.just("shield"), nodes, SECONDS),
        st.tuples(st.just("cancelled"), nodes, SECONDS),
        st.tuples(st.just("guarded"), nodes, nodes),
        st.tuples(st.just("generator"), several),
    )


PROGRAMS = st.recursive(LEAVES, _branches, max_leaves=8)


class Interpreter:
    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.trace: list[str] = []
        self.lock = asyncio.Lock()

    async def run(self, node: list[Any]) -> str:
        kind, *arguments = node
        result = str(await getattr(self, f"do_{kind}")(*arguments))
        self.trace.append(f"{kind}:{result}")
        return result

    async def do_activity(self, label: str) -> str:
        try:
            return await self.ctx.activity(STEP, label)
        except ActivityError as error:
            return error.message

    async def do_sleep(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return asyncio.get_running_loop().time()

    async def do_signal(self, name: str, timeout: float | None) -> Any:
        try:
            return await self.ctx.wait_signal(name, timeout=timeout)
        except TimeoutError:
            return "timeout"

    async def do_draw(self) -> int:
        return self.ctx.random.randrange(1_000_000)

    async def do_effect(self) -> int:
        return self.ctx.side_effect(lambda: self.ctx.info.events)

    async def do_fail(self) -> str:
        raise ValueError("planned")

    async def do_sequence(self, nodes: list[Any]) -> list[str]:
        return [await self.run(node) for node in nodes]

    async def do_gather(self, nodes: list[Any]) -> list[str]:
        results = await asyncio.gather(*(self.run(node) for node in nodes), return_exceptions=True)
        return [str(result) for result in results]

    async def do_race(self, nodes: list[Any]) -> list[str]:
        tasks = {asyncio.create_task(self.run(node)) for node in nodes}
        try:
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        await asyncio.wait(tasks)
        return [_outcome(task) for task in (*done, *pending)]

    async def do_group(self, nodes: list[Any]) -> list[str]:
        failed: list[str] = []
        tasks = []
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.run(node)) for node in nodes]
        except* ValueError as errors:
            failed = [str(error) for error in errors.exceptions]
        return failed or [_outcome(task) for task in tasks]

    async def do_completed(self, nodes: list[Any]) -> list[str]:
        results = []
        for earliest in asyncio.as_completed([self.run(node) for node in nodes]):
            try:
                results.append(await earliest)
            except ValueError as error:
                results.append(str(error))
        return results

    async def do_queue(self, nodes: list[Any]) -> list[str]:
        queue: asyncio.Queue[Any] = asyncio.Queue(1)

        async def produce() -> None:
            for node in [*nodes, None]:
                await queue.put(node)

        producer = asyncio.create_task(produce())
        results = []
        try:
            while (node := await queue.get()) is not None:
                results.append(await self.run(node))
        finally:
            producer.cancel()
        return results

    async def do_locked(self, nodes: list[Any]) -> list[str]:
        async def one(node: Any) -> str:
            try:
                async with asyncio.timeout(20), semaphore:
                    return await self.run(node)
            except TimeoutError:
                return "timeout"

        semaphore = asyncio.Semaphore(1)
        return await asyncio.gather(*(one(node) for node in nodes))

    async def do_limit(self, node: Any, seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds):
                return await self.run(node)
        except TimeoutError:
            return "timeout"

    async def do_wait_for(self, node: Any, seconds: float) -> str:
        try:
            return await asyncio.wait_for(self.run(node), seconds)
        except TimeoutError:
            return "timeout"

    async def do_shield(self, node: Any, seconds: float) -> str:
        inner = asyncio.create_task(self.run(node))
        try:
            return await asyncio.wait_for(asyncio.shield(inner), seconds)
        except TimeoutError:
            return await inner

    async def do_cancelled(self, node: Any, seconds: float) -> str:
        task = asyncio.create_task(self.run(node))
        try:
            await asyncio.sleep(seconds)
        finally:
            task.cancel("planned")
        await asyncio.wait([task])
        return _outcome(task)

    async def do_guarded(self, node: Any, following: Any) -> str:
        try:
            return await self.run(node)
        except (ValueError, asyncio.CancelledError) as error:
            self.trace.append(f"guarded:{type(error).__name__}")
            await self.run(following)
            raise

    async def do_generator(self, nodes: list[Any]) -> list[str]:
        async def results() -> Any:
            for node in nodes:
                yield await self.run(node)

        return [result async for result in results()]


def _outcome(task: asyncio.Task[str]) -> str:
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return task.result() if error is None else str(error)


@workflow
async def interprets(ctx: Context, program: list[Any]) -> list[str]:
    interpreter = Interpreter(ctx)
    await interpreter.run(program)
    return interpreter.trace


def _choices(run: Run) -> list[events.Event]:
    """Everything that could reach the run now."""
    following = run.instance.next_timer()
    outcomes: list[events.Event] = []
    for sequence in run.instance.activities:
        outcomes.append(events.ActivityCompleted(activity=sequence, result=payload(f"result {sequence}")))
        outcomes.append(
            events.ActivityFailed(activity=sequence, failure=failures.Failure(type="E", message=f"failure {sequence}"))
        )
    if following is not None:
        outcomes += [events.TimerFired(timer=following[1])] * 2
    outcomes += [events.SignalReceived(name=name, payload=payload(run.instance.sequence)) for name in ("go", "stop")]
    return [*outcomes, events.CancelRequested(reason="enough")]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(program=PROGRAMS, choices=st.lists(st.integers(0, 1_000), max_size=12), seed=st.integers(0, 2**64 - 1))
def test_any_prefix_of_any_history_continues_to_the_same_history(program, choices, seed):
    run = Run(interprets, program, seed=seed)
    for choice in choices:
        if run.instance.closed:
            break
        possible = _choices(run)
        chosen = possible[choice % len(possible)]
        if isinstance(chosen, events.TimerFired):
            run.fire()
        else:
            run.apply(chosen)
    event(run.kinds[-1] if run.instance.closed else "open")
    run.check_replay()
