"""Promises of a run that somebody outside fulfils, by a token or through a URL."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Generator
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from django_durable.definitions import options as checks
from django_durable.engine.commands import OpenCallback
from django_durable.engine.loop import DeterministicLoop
from django_durable.engine.promises import Promise
from django_durable.engine.recorder import Recorder
from django_durable.exceptions import DurableError
from django_durable.history import events, failures
from django_durable.payloads import codec
from django_durable.payloads.payload import Payload

T = TypeVar("T")


class Address(NamedTuple):
    """How a callback is reached. ``url`` empty: the project serves no URLs for callbacks."""

    token: str
    url: str


MakeAddress = Callable[[UUID, str, datetime, timedelta | None], Address]
"""From the chain, the key, the time at which it is opened and its timeout."""


def _unsigned(chain_id: UUID, key: str, opened_at: datetime, timeout: timedelta | None) -> Address:
    return Address(f"{chain_id.hex}:{key}", "")


class _Source:
    """The engine knows neither secrets nor URLs: whoever does tells it how addresses are made."""

    make: MakeAddress = staticmethod(_unsigned)


def address_with(make: MakeAddress) -> None:
    """Make addresses with ``make`` from now on."""
    _Source.make = staticmethod(make)


class Opening:
    """A callback that was asked for."""

    __slots__ = ("again", "command", "promise", "returns")

    def __init__(self, command: OpenCallback, returns: Any, loop: DeterministicLoop) -> None:
        self.command = command
        self.returns = returns
        self.promise = Promise(loop)
        self.again = False  # its place for the answer may be missing, since the run was reset


class Callback(Generic[T]):
    """A promise that somebody outside fulfils. Awaiting it gives its value, as often as one likes."""

    __slots__ = ("_opening",)

    def __init__(self, opening: Opening) -> None:
        self._opening = opening

    def __await__(self) -> Generator[Any, Any, T]:
        return self._wait().__await__()

    def __repr__(self) -> str:
        return f"<callback {self.name}>"

    @property
    def name(self) -> str:
        return self._opening.command.name

    @property
    def token(self) -> str:
        """For ``durable.complete_activity()`` and its like. A secret: whoever has it may fulfil the promise."""
        return self._opening.command.token

    @property
    def url(self) -> str:
        """Where a POST of a JSON value fulfils it. A secret as well. Raises ``DurableError`` without such URLs."""
        if not self._opening.command.url:
            raise DurableError(
                "This project serves no URLs for callbacks. Add path('durable/', include('django_durable.urls')) to "
                "its ROOT_URLCONF, and set DURABLE['CALLBACK_URL'] to where the world reaches it."
            )
        return self._opening.command.url

    async def _wait(self) -> T:
        await self._opening.promise.wait()
        value: T = self._opening.promise.value()
        return value


class Callbacks:
    """``pending`` holds those that nobody has fulfilled, by the sequence of their CallbackOpened."""

    __slots__ = ("_chain_id", "_input", "_key", "_loop", "_opened", "_recorder", "_seed", "pending")

    def __init__(self, loop: DeterministicLoop, recorder: Recorder, *, chain_id: UUID, key: str, seed: int) -> None:
        """``key`` begins the keys that are made here, ``seed`` makes them unlike those of any other run."""
        self.pending: dict[int, Opening] = {}
        self._loop = loop
        self._recorder = recorder
        self._chain_id = chain_id
        self._key = key
        self._seed = seed
        self._input = 0
        self._opened: Counter[str] = Counter()

    def rekey(self, key: str) -> None:
        """``key`` begins the keys that are made from now on."""
        self._key = key

    def begin_again(self, event: events.RunReset) -> None:
        """The run was reset: these can be fulfilled once more."""
        for sequence in event.again:
            if sequence in self.pending:
                self.pending[sequence].again = True

    def begin(self, sequence: int) -> None:
        """A drain begins: that of the input ``sequence``."""
        self._input = sequence
        self._opened.clear()

    # What the workflow does

    def open(
        self,
        name: str,
        returns: Any,
        *,
        timeout: timedelta | float | None = None,
        heartbeat: timedelta | float | None = None,
    ) -> Callback[Any]:
        """Ask for a callback. Its address is known at once, and taken from history when replaying."""
        checks.check_text(name, what="The name of a callback")
        limit, silence = _duration(timeout, name, "timeout"), _duration(heartbeat, name, "heartbeat")
        self._recorder.check()
        recorded = self._recorder.recorded_callback(name)
        if recorded is not None:
            key, address = recorded.key, Address(recorded.token, recorded.url)
        else:
            key = self._new_key(name)
            address = _Source.make(self._chain_id, key, self._loop.now, limit)
        command = OpenCallback(
            name=name, key=key, token=address.token, url=address.url, timeout=limit, heartbeat=silence
        )
        opening = Opening(command, returns, self._loop)
        self._recorder.issue(command, opening)
        return Callback(opening)

    def _new_key(self, name: str) -> str:
        """Known before the drain ends, so made from what is asked for instead of from its sequence."""
        self._opened[name] += 1
        source = f"{self._seed} {self._input} {self._opened[name]} {name}"
        return f"{self._key}-c{hashlib.sha256(source.encode()).hexdigest()[:16]}"

    # What happens to it

    def keep(self, opening: Opening, recorded: events.Event | None) -> None:
        """Its command has got a sequence."""
        self.pending[opening.command.sequence] = opening

    def complete(self, event: events.ActivityCompleted) -> None:
        opening = self.pending.pop(event.activity)
        opening.promise.keep(partial(_value, opening, event.result))

    def fail(self, event: events.ActivityFailed) -> None:
        opening = self.pending.pop(event.activity)
        opening.promise.keep(partial(_raise, opening, event))

    # Looking

    def describe(self, future: Any) -> str | None:
        """What a wait for ``future`` is, if it is one for a callback."""
        for opening in self.pending.values():
            if opening.promise.is_awaited_by(future):
                return f"callback {opening.command.name}"
        return None

    def clear(self) -> None:
        self.pending.clear()


def _value(opening: Opening, result: Payload) -> Any:
    return codec.decode(result, opening.returns, what=f"The value of callback {opening.command.name}")


def _raise(opening: Opening, event: events.ActivityFailed) -> None:
    raise failures.activity_error(opening.command.name, event.failure, attempts=event.attempts, timeout=event.timeout)


def _duration(value: timedelta | float | None, name: str, option: str) -> timedelta | None:
    if value is None:
        return None
    duration = value if isinstance(value, timedelta) else timedelta(seconds=value)
    checks.check_duration(duration, name=option, owner=f"Callback {name}")
    return duration
