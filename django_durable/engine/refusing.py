"""What an event loop can do and a workflow cannot: threads, sockets, processes, signals of the system."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

from django_durable.exceptions import UnsupportedInWorkflow

_THREADS = "Do it in an activity, and await ctx.activity(...): activities may use threads, blocking code and the ORM."
_IO = "Do it in an activity, and await ctx.activity(...): a workflow talks to the world through activities only."
_SIGNALS = "Send the workflow a message with signal_workflow(), and wait for it with ctx.wait_signal()."
_LOOP = "The loop of a workflow is run and configured by its worker."

_ADVICE = {
    "run_in_executor": _THREADS,
    "set_default_executor": _THREADS,
    "shutdown_default_executor": _THREADS,
    "call_soon_threadsafe": _SIGNALS,
    "add_signal_handler": _SIGNALS,
    "remove_signal_handler": _SIGNALS,
    "run_forever": _LOOP,
    "run_until_complete": _LOOP,
    "stop": _LOOP,
    "close": _LOOP,
    "set_debug": _LOOP,
    "set_task_factory": _LOOP,
    "set_exception_handler": _LOOP,
    "default_exception_handler": _LOOP,
    "shutdown_asyncgens": _LOOP,
}


class RefusingLoop(asyncio.AbstractEventLoop):
    """Every public method of an event loop, raising ``UnsupportedInWorkflow``."""

    def gate(self) -> None:
        """Raise first if the loop can't be used at all."""


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(self: RefusingLoop, *args: Any, **kwargs: Any) -> NoReturn:
        self.gate()
        raise UnsupportedInWorkflow(
            f"A workflow cannot use {name}() of its event loop: it could not be replayed. {_ADVICE.get(name, _IO)}"
        )

    refuse.__name__ = name
    return refuse


for _name in vars(asyncio.AbstractEventLoop):
    if not _name.startswith("_"):
        setattr(RefusingLoop, _name, _refusal(_name))
