"""Lines of the user's workflow code, for messages."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

_OURS = str(Path(__file__).parent.parent) + os.sep
_HIDDEN = (_OURS, str(Path(asyncio.__file__).parent) + os.sep)
_BOTTOM = "_run_ready"  # the loop's own function: what called that is the worker, not the workflow

_FRAMES = ("cr_frame", "ag_frame", "gi_frame")
_AWAITED = ("cr_await", "ag_await", "gi_yieldfrom")


def here() -> str:
    """``file:line`` of the innermost user code that runs now; empty in a task that has none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_HIDDEN):
            return f"{code.co_filename}:{frame.f_lineno}"
        if code.co_name == _BOTTOM:
            return ""
        frame = frame.f_back
    return ""


def of_coroutine(coroutine: Any) -> str:
    """``file:line`` where ``coroutine`` waits, in user code; empty if it waits in none."""
    frame, _ = frames_of(coroutine)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""


def frames_of(coroutine: Any) -> tuple[FrameType | None, FrameType | None]:
    """The innermost frame of user code that ``coroutine`` waits in, and the innermost frame of all."""
    users = innermost = None
    while coroutine is not None:
        frame = next(filter(None, (getattr(coroutine, name, None) for name in _FRAMES)), None)
        if frame is not None:
            innermost = frame
            users = users if frame.f_code.co_filename.startswith(_HIDDEN) else frame
        coroutine = next(filter(None, (getattr(coroutine, name, None) for name in _AWAITED)), None)
    return users, innermost


def of_exception(error: BaseException) -> str:
    """``file:line`` of the innermost user code that ``error`` came through; empty if there is none."""
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if not frame.f_code.co_filename.startswith(_HIDDEN):
            found = f"{frame.f_code.co_filename}:{line}"
    return found


def of_function(function: Any) -> str:
    """``file:line`` where ``function`` is defined."""
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""


def trim(error: BaseException) -> None:
    """Take this library's own frames out of the traceback of ``error``: they tell users nothing."""
    kept: TracebackType | None = None
    entries = []
    entry = error.__traceback__
    while entry is not None:
        entries.append(entry)
        entry = entry.tb_next
    for entry in reversed(entries):
        if not entry.tb_frame.f_code.co_filename.startswith(_OURS):
            kept = TracebackType(kept, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    error.__traceback__ = kept
