"""What a wake-up transport is. Hints only: losing every one of them costs a poll interval and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from django_durable.exceptions import DefinitionError

Wake = Callable[[], None]


class Listener(Protocol):
    """A worker's ear. It calls the worker's ``wake`` from a thread of its own until it is closed."""

    @property
    def hears(self) -> bool:
        """Whether hints arrive, so that an idle worker may look at the database more rarely."""

    def close(self) -> None: ...


class Transport:
    """Carries hints from whoever wrote something to the workers that may act on it.

    A project's own transport is a subclass, named by its dotted path as ``BACKEND``. Making one opens no connection.
    ``work`` and ``message`` are called after commits, in views and in the engine of workers: they must return at once.
    What they raise is logged and goes no further. A hint may be lost, late, or come a thousand times.
    """

    OPTIONS: ClassVar[Mapping[str, Any]] = {}
    """The options that there are, with their defaults."""

    def __init__(self, alias: str, options: Mapping[str, Any]) -> None:
        """``alias`` and ``options`` as the settings have them. Raises ``DefinitionError`` if these cannot work."""
        self.alias = alias
        unknown = sorted(set(options) - set(self.OPTIONS))
        if unknown:
            known = ", ".join(self.OPTIONS) or "none"
            raise DefinitionError(f"Transport {alias!r} has no option {unknown[0]!r}. Its options: {known}.")
        self.options: dict[str, Any] = {**self.OPTIONS, **options}

    def work(self, queue: str) -> None:
        """Something in ``queue`` is due. Called after the commit, in the writer's thread."""
        raise NotImplementedError

    def message(self, worker: int) -> None:
        """A chain that ``worker`` owns has a message. Called after the commit."""
        raise NotImplementedError

    def later(self, queue: str, seconds: float) -> None:
        """Something in ``queue`` will be due in so many seconds, and no worker waits for that.

        Nothing, unless the transport can keep a hint back for so long: what is due is found at the next look.
        """

    def listen(self, queues: tuple[str, ...], worker: int, wake: Wake) -> Listener:
        """Call ``wake`` at each hint for these queues or this worker, and once when the listener begins to hear."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise whatever error says why no hint could be sent now. What needs only the database has nothing to say."""

    def rest(self, seconds: float) -> None:
        """This process may be frozen now: send what waits, for so long at most, and keep no thread or connection."""

    def close(self) -> None:
        """Nobody gives hints to this transport any more: the settings have changed."""
