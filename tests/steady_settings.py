"""Settings that a test may override while threads of workers read them."""

from __future__ import annotations

from typing import Any

from django.conf import LazySettings, settings

_read, _write = LazySettings.__getattr__, LazySettings.__setattr__


def install() -> None:
    """Let Django's settings be there at every moment, and never as they were before.

    ``override_settings`` empties them before it puts its own in place, and a thread that has read an old value just
    then may keep it for everybody: they are remembered after they are read. So none is remembered here.
    """
    LazySettings.__getattr__ = _read_anew  # type: ignore[assignment, method-assign]
    LazySettings.__setattr__ = _replace  # type: ignore[assignment, method-assign]
    for name in settings.__dict__.keys() - {"_wrapped"}:
        del settings.__dict__[name]


def _read_anew(holder: LazySettings, name: str) -> Any:
    value = _read(holder, name)
    holder.__dict__.pop(name, None)
    return value


def _replace(holder: LazySettings, name: str, value: Any) -> None:
    if name == "_wrapped":
        holder.__dict__[name] = value
    else:
        _write(holder, name, value)
