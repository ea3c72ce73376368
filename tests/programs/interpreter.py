"""One workflow that interprets programs: trees of instructions, which are its input.

Each instruction has a path, its place in the tree, and what it asks for carries that path: so an event of one run is
found again in another run of the same program, wherever it stands there. The result is a tree of what each instruction
gave; nothing in it depends on which of several activities came first.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Literal

from django_durable import Retry, durable
from django_durable.engine.context import Context
from django_durable.exceptions import ActivityError, ChildWorkflowError, FailureError
from tests.programs import outside

Node = list[Any]
Cancellation = Literal["wait", "try", "abandon"]
Closing = Literal["terminate", "cancel", "abandon"]

PATIENCE = 20  # seconds that nobody waits longer for a message
LONGEST_OFFSET = 500_000  # microseconds
AGAIN = Retry(max_attempts=2, initial_interval=timedelta(seconds=3), jitter=False)


class Planned(Exception):
    """The program says that the run fails here."""


@durable.workflow(name="programs.interpret")
async def interpret(ctx: Context, node: Node, path: str = "0", ties: bool = False) -> Any:
    return await Interpreter(ctx, ties=ties).run(node, path)


class Interpreter:
    """``ties``: what takes the same time ends at the same moment; otherwise every path has an offset of its own."""

    def __init__(self, ctx: Context, *, ties: bool) -> None:
        self.ctx = ctx
        self.ties = ties
        self.done = 0

    async def run(self, node: Node, path: str) -> Any:
        kind, *arguments = node
        do: Callable[..., Awaitable[Any]] = getattr(self, f"do_{kind}")
        result = await do(path, *arguments)
        self.done += 1
        return [kind, result]

    def length(self, seconds: float, path: str) -> timedelta:
        offset = 0 if self.ties else zlib.crc32(path.encode()) % LONGEST_OFFSET
        return timedelta(seconds=seconds, microseconds=offset)

    async def ask(self, what: str, path: str, delay: float) -> None:
        """Somebody outside does ``what`` after ``delay``; its name there is the path."""
        length = self.length(delay, f"{path} {what}")
        await self.ctx.activity(outside.ask, path, what, length.total_seconds())

    # Activities

    async def do_say(self, path: str) -> str:
        return await self.ctx.activity(outside.say, path)

    async def do_stumble(self, path: str) -> str:
        return await self.ctx.activity(outside.stumble, path)

    async def do_refuse(self, path: str) -> str:
        return await self.ctx.activity(outside.refuse, path)

    async def do_slow(self, path: str, seconds: float, cancellation: Cancellation) -> str:
        slow = outside.slow.using(cancellation=cancellation)
        return await self.ctx.activity(slow, path, self.length(seconds, path).total_seconds())

    async def do_poll(self, path: str, seconds: float) -> bool:
        looking = outside.look.polling(until=bool, every=self.length(1, path))
        return await self.ctx.poll(looking, path, self.length(seconds, path).total_seconds())

    async def do_map(self, path: str, count: int) -> list[Any]:
        items = [f"{path}.{number}" for number in range(count)]
        return (await self.ctx.map(outside.say, items, max_concurrency=2)).results

    async def do_compensated(self, path: str, node: Node) -> Any:
        self.ctx.compensate(outside.say, f"{path} undone")
        result = await self.run(node, f"{path}.0")
        await self.ctx.compensate_now()
        return result

    # Values

    async def do_effect(self, path: str) -> str:
        return self.ctx.side_effect(lambda: path)

    async def do_draw(self, path: str) -> int:
        return self.ctx.random.randrange(1_000_000)

    async def do_fail(self, path: str) -> None:
        raise Planned(path)

    # Time

    async def do_sleep(self, path: str, seconds: float) -> None:
        await self.ctx.sleep(self.length(seconds, path), label=path)

    async def do_cancelled(self, path: str, node: Node, seconds: float) -> Any:
        task = asyncio.create_task(self.run(node, f"{path}.0"))
        try:
            await self.ctx.sleep(self.length(seconds, path), label=path)
        finally:
            task.cancel()
            results: Any = await asyncio.gather(task, return_exceptions=True)
        return _told(results[0])

    async def do_limit(self, path: str, node: Node, seconds: float) -> Any:
        try:
            async with asyncio.timeout(self.length(seconds, path).total_seconds()):
                return await self.run(node, f"{path}.0")
        except TimeoutError:
            return "timeout"

    # Messages

    async def do_signal(self, path: str, delay: float | None) -> str:
        if delay is not None:
            await self.ask("signal", path, delay)
        return await self.hear(path, path)

    async def hear(self, name: str, path: str) -> str:
        try:
            await self.ctx.wait_signal(name, timeout=self.length(PATIENCE, path), label=path)
        except TimeoutError:
            return "timeout"
        return "signal"

    async def do_update(self, path: str, delay: float, valid: bool) -> str:
        """An update whose handler has work to do, or that is refused and so never seen."""
        seen = asyncio.Event()

        def check(valid: bool) -> None:
            if not valid:
                raise ValueError(path)

        @self.ctx.on_update(path, validator=check)
        async def change(valid: bool) -> str:
            seen.set()
            return await self.ctx.activity(outside.say, f"{path} changed")

        await self.ask("update" if valid else "wrong update", path, delay)
        try:
            async with asyncio.timeout(self.length(PATIENCE, path).total_seconds()):
                await seen.wait()
        except TimeoutError:
            return "timeout"
        return "update"

    async def do_callback(self, path: str, delay: float | None, succeeds: bool) -> Any:
        promise = self.ctx.callback(path, timeout=self.length(PATIENCE, path))
        if delay is not None:
            await self.ask("fulfil" if succeeds else "break", path, delay)
        return await promise

    async def do_ended(self, path: str, node: Node, delay: float) -> Any:
        """Somebody cancels this run."""
        await self.ask("cancel", path, delay)
        return await self.run(node, f"{path}.0")

    # Several at once

    async def do_sequence(self, path: str, nodes: list[Node]) -> list[Any]:
        return [await self.run(node, f"{path}.{number}") for number, node in enumerate(nodes)]

    async def do_gather(self, path: str, nodes: list[Node]) -> list[Any]:
        running = (self.run(node, f"{path}.{number}") for number, node in enumerate(nodes))
        return [_told(result) for result in await asyncio.gather(*running, return_exceptions=True)]

    async def do_group(self, path: str, nodes: list[Node]) -> list[Any]:
        """The first that fails ends the others."""
        failed: list[Any] = []
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.later(node, f"{path}.{number}")) for number, node in enumerate(nodes)]
        except* (FailureError, Planned) as errors:
            failed = sorted(_told(error) for error in errors.exceptions)
        return failed or [task.result() for task in tasks]

    async def do_race(self, path: str, nodes: list[Node]) -> list[Any]:
        """The first that ends ends the others."""
        tasks = [asyncio.create_task(self.later(node, f"{path}.{number}")) for number, node in enumerate(nodes)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        return [_told(result) for result in results]

    async def later(self, node: Node, path: str) -> Any:
        """At another moment than its neighbours, so that it is sure which of them is first."""
        await self.ctx.sleep(self.length(0, path), label=path)
        return await self.run(node, path)

    async def do_until(self, path: str, node: Node) -> Any:
        before = self.done
        task = asyncio.create_task(self.run(node, f"{path}.0"))
        try:
            await self.ctx.wait_until(lambda: task.done() or self.done > before)
        finally:
            results: Any = await asyncio.gather(task, return_exceptions=True)
        return _told(results[0])

    async def do_guarded(self, path: str, node: Node, following: Node) -> Any:
        with self.ctx.scope(f"guarded {path}"):
            try:
                return await self.run(node, f"{path}.0")
            except (FailureError, Planned) as error:
                return _told(error)
            finally:
                await self.run(following, f"{path}.1")

    # Runs

    async def do_child(
        self, path: str, node: Node, tries: int, cancellation: Cancellation, parent_close: Closing
    ) -> Any:
        definition = interpret.using(
            cancellation=cancellation, parent_close=parent_close, retry=AGAIN if tries > 1 else None
        )
        return await self.answer_of(self.ctx.child_workflow(definition, node, f"{path}.0", self.ties), path)

    async def do_told(self, path: str, node: Node) -> Any:
        """A child that waits for a signal from here."""
        child = await self.ctx.start_child(interpret, ["heard", node], f"{path}.0", self.ties)
        await child.signal("told", path)
        return await self.answer_of(child, path)

    async def do_heard(self, path: str, node: Node) -> Any:
        await self.hear("told", path)
        return await self.run(node, f"{path}.0")

    async def do_dismissed(self, path: str, node: Node, seconds: float) -> Any:
        """A child that is asked to end from here."""
        child = await self.ctx.start_child(interpret, node, f"{path}.0", self.ties)
        await self.ctx.sleep(self.length(seconds, path), label=path)
        await child.cancel(path)
        return await self.answer_of(child, path)

    async def answer_of(self, child: Awaitable[Any], path: str) -> Any:
        """What the child has come to. One that is given up has a moment to end before its parent goes on."""
        try:
            return await child
        except ChildWorkflowError as error:
            return f"child {error.status}"
        except asyncio.CancelledError:
            await self.ctx.sleep(self.length(0, f"{path} left"), label=path)
            raise

    async def do_flaky(self, path: str, node: Node) -> Any:
        """Fails in the first attempt of the run."""
        result = await self.run(node, f"{path}.0")
        if self.ctx.info.attempt == 1:
            raise Planned(path)
        return result

    async def do_again(self, path: str, node: Node, following: Node) -> Any:
        await self.run(node, f"{path}.0")
        self.ctx.continue_as_new(following, f"{path}.1", self.ties)


def _told(result: Any) -> Any:
    if isinstance(result, ActivityError):
        return f"{result.type}: {result.message}"
    return type(result).__name__ if isinstance(result, BaseException) else result
