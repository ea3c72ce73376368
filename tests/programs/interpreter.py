"""One workflow that interprets programs: trees of instructions, which are its input.

Its result is a tree of what each instruction gave, and holds nothing that depends on which of several activities came
first: so it is the same however often workers die.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from django_durable import Retry, durable
from django_durable.engine.context import Context
from django_durable.exceptions import ActivityError, ChildWorkflowError

Node = list[Any]
FAST = Retry(max_attempts=50, initial_interval=timedelta(0))


@durable.activity(name="programs.say", retry=FAST)
def say(word: str) -> str:
    return word


@durable.activity(name="programs.stumble", retry=FAST)
def stumble(word: str) -> str:
    """Fails in its first attempt."""
    if durable.current_activity().attempt == 1:
        raise ConnectionError("the first attempt")
    return word


@durable.activity(name="programs.refuse", retry=Retry(max_attempts=1))
def refuse(word: str) -> str:
    raise ValueError(word)


@durable.workflow(name="programs.interpret")
async def interpret(ctx: Context, node: Node) -> Any:
    return await Interpreter(ctx).run(node)


class Interpreter:
    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.done = 0

    async def run(self, node: Node) -> Any:
        kind, *arguments = node
        result = await getattr(self, f"do_{kind}")(*arguments)
        self.done += 1
        return [kind, result]

    async def do_say(self, word: str) -> str:
        return await self.ctx.activity(say, word)

    async def do_stumble(self, word: str) -> str:
        return await self.ctx.activity(stumble, word)

    async def do_refuse(self, word: str) -> str:
        return await self.ctx.activity(refuse, word)

    async def do_sleep(self, seconds: int) -> int:
        await self.ctx.sleep(seconds)
        return seconds

    async def do_signal(self, name: str) -> str:
        try:
            await self.ctx.wait_signal(name, timeout=5)
        except TimeoutError:
            return "timeout"
        return "signal"

    async def do_effect(self, word: str) -> str:
        return self.ctx.side_effect(lambda: word)

    async def do_sequence(self, nodes: list[Node]) -> list[Any]:
        return [await self.run(node) for node in nodes]

    async def do_gather(self, nodes: list[Node]) -> list[Any]:
        results = await asyncio.gather(*map(self.run, nodes), return_exceptions=True)
        return [_told(result) for result in results]

    async def do_map(self, words: list[str]) -> list[Any]:
        return (await self.ctx.map(say, words, max_concurrency=2)).results

    async def do_child(self, node: Node) -> Any:
        try:
            return await self.ctx.child_workflow(interpret, node)
        except ChildWorkflowError as error:
            return type(error).__name__

    async def do_cancelled(self, node: Node, seconds: float) -> Any:
        task = asyncio.create_task(self.run(node))
        await self.ctx.sleep(seconds)
        task.cancel()
        results: Any = await asyncio.gather(task, return_exceptions=True)
        return _told(results[0])

    async def do_guarded(self, node: Node, following: Node) -> Any:
        try:
            result: Any = await self.run(node)
            return result
        except ActivityError as error:
            return _told(error)
        finally:
            await self.run(following)

    async def do_compensated(self, word: str, node: Node) -> Any:
        self.ctx.compensate(say, word)
        result = await self.run(node)
        await self.ctx.compensate_now()
        return result

    async def do_until(self, node: Node) -> Any:
        before = self.done
        task = asyncio.create_task(self.run(node))
        try:
            await self.ctx.wait_until(lambda: task.done() or self.done > before)
        finally:
            results: Any = await asyncio.gather(task, return_exceptions=True)
        return _told(results[0])

    async def do_again(self, node: Node, following: Node) -> Any:
        await self.run(node)
        self.ctx.continue_as_new(following)


def _told(result: Any) -> Any:
    return type(result).__name__ if isinstance(result, BaseException) else result
