"""Makes ``asyncio.as_completed`` start its coroutines in the caller's order.

It puts them into a set first, and a set of coroutines iterates by address: in another order in every process.
(A set of tasks is no problem: their hash is ours.) So when the loop is asked for the first task of such a set, it
looks up the list that the caller gave and makes all of them, in the order of the list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import FrameType
from typing import Any

from django_durable.exceptions import UnsupportedInWorkflow

_FILE = asyncio.ensure_future.__code__.co_filename
_ENSURE = {"ensure_future", "_ensure_future"}
_FRAMES = {"as_completed": "fs", "__init__": "aws"}  # the function's name -> its argument: until 3.12, from 3.13 on
_BETWEEN = _ENSURE | {"<setcomp>"}


def listed(frame: FrameType | None) -> list[Any] | None:
    """The awaitables that ``as_completed`` was given, if ``frame`` runs on its behalf; else None."""
    if frame is None or frame.f_code.co_name not in _ENSURE:
        return None
    while frame is not None and frame.f_code.co_filename == _FILE:
        name = frame.f_code.co_name
        if name in _FRAMES and _FRAMES[name] in frame.f_locals:
            return _in_order(frame.f_locals[_FRAMES[name]])
        if name not in _BETWEEN:
            return None
        frame = frame.f_back
    return None


def _in_order(awaitables: Any) -> list[Any]:
    if isinstance(awaitables, set | frozenset | Iterator):
        raise UnsupportedInWorkflow(
            "asyncio.as_completed() would start these coroutines in another order in every process. "
            "Give it a list or a tuple of them, or of tasks that were made with asyncio.create_task()."
        )
    return list(awaitables)
