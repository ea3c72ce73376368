"""Functions that a test runs in the place of activities."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from asgiref.sync import async_to_sync

from django_durable.definitions.activity import ActivityDefinition
from django_durable.definitions.registry import registry

AnyActivity = ActivityDefinition[Any, Any]


class Mock:
    """A function in an activity's place, until ``stop()`` or the end of the ``with`` block."""

    def __init__(self, mocks: Mocks, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        """Positional and keyword arguments of every attempt, in order."""
        self._mocks = mocks
        self._function = function

    def __repr__(self) -> str:
        return f"<mock of activity {self.name}, {len(self.calls)} calls>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Let the activity, or the mock before this one, run again."""
        self._mocks.remove(self)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """What the function gives; of an async one, what there is to await."""
        self.calls.append((args, kwargs))
        return self._function(*args, **kwargs)


class Mocks:
    """The mocks of one environment, by the names that activities were declared under."""

    def __init__(self) -> None:
        self._mocks: dict[str, list[Mock]] = {}

    def add(self, activity: AnyActivity | str, function: Callable[..., Any]) -> Mock:
        """Run ``function`` in the place of ``activity``. Raises ``TypeError``, ``UnknownDefinition``."""
        if not callable(function):
            raise TypeError(
                f"mock() needs a function that is called with the activity's arguments, not {function!r}. "
                "For a fixed result: mock(activity, lambda *args, **kwargs: result)."
            )
        name = activity if isinstance(activity, str) else getattr(registry.adapted(activity), "registered_name", None)
        if not isinstance(name, str):
            raise TypeError(f"mock() needs an activity, or the name of one, not {activity!r}.")
        registry.activity(name)  # a wrong name is told here, not by a test that runs the real thing
        mock = Mock(self, name, function)
        self._mocks.setdefault(name, []).append(mock)
        return mock

    def remove(self, mock: Mock) -> None:
        stacked = self._mocks.get(mock.name, [])
        if mock in stacked:
            stacked.remove(mock)

    def clear(self) -> None:
        self._mocks.clear()

    def substitute_for(self, definition: AnyActivity) -> Callable[..., Any] | None:
        """What runs in the place of ``definition``'s function, of its own kind; None: the function itself."""
        stacked = self._mocks.get(definition.registered_name)
        if not stacked:
            return None
        mock = stacked[-1]
        return _async_call(mock) if definition.is_async else _sync_call(mock)


def _sync_call(mock: Mock) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        value = mock.call(*args, **kwargs)
        return async_to_sync(_wait_for)(value) if inspect.isawaitable(value) else value

    return call


def _async_call(mock: Mock) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        value = mock.call(*args, **kwargs)
        return await value if inspect.isawaitable(value) else value

    return call


async def _wait_for(value: Any) -> Any:
    return await value
