"""Promises of a run that somebody outside fulfils, by a token or through a URL."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable
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

OF_CHAIN = "k"  # marks the address of a callback that outlives the run that has made it
CHAIN_LIMIT = 1_000
"""Callbacks with a key that a run may have: each is a part of the first event of every run that follows."""


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

    __slots__ = ("again", "awaited", "command", "outcome", "promise", "returns")

    def __init__(self, command: OpenCallback, returns: Any, loop: DeterministicLoop) -> None:
        self.command = command
        self.returns = returns
        self.promise = Promise(loop)
        self.outcome: events.ActivityCompleted | events.ActivityFailed | None = None
        self.awaited = False  # somebody has got its outcome
        self.again = False  # its place for the answer may be missing: it is older than the run, or the run was reset

    def keep(self, outcome: events.ActivityCompleted | events.ActivityFailed) -> None:
        """It has its outcome."""
        self.outcome = outcome
        if isinstance(outcome, events.ActivityCompleted):
            self.promise.keep(partial(_value, self, outcome.result))
        else:
            self.promise.keep(partial(_raise, self, outcome))


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
        self._opening.awaited = True
        value: T = self._opening.promise.value()
        return value


class Callbacks:
    """``pending`` holds those that nobody has fulfilled, by the sequence of their CallbackOpened."""

    __slots__ = ("_chain_id", "_key", "_loop", "_of_chain", "_recorder", "_seed", "pending")

    def __init__(self, loop: DeterministicLoop, recorder: Recorder, *, chain_id: UUID, key: str, seed: int) -> None:
        """``key`` begins the keys that are made here, ``seed`` makes them unlike those of any other run."""
        self.pending: dict[int, Opening] = {}
        self._loop = loop
        self._recorder = recorder
        self._chain_id = chain_id
        self._key = key
        self._seed = seed
        self._of_chain: dict[str, Opening] = {}  # by the key that the code has given them

    def rekey(self, key: str) -> None:
        """``key`` begins the keys that are made from now on."""
        self._key = key

    def begin_again(self, event: events.RunReset) -> None:
        """The run was reset: these can be fulfilled once more."""
        for sequence in event.again:
            if sequence in self.pending:
                self.pending[sequence].again = True

    # What the workflow does

    def open(
        self,
        name: str,
        returns: Any,
        *,
        timeout: timedelta | float | None = None,
        heartbeat: timedelta | float | None = None,
        chain_key: str | None = None,
    ) -> Callback[Any]:
        """Ask for a callback. Its address is known at once, and taken from history when replaying."""
        checks.check_text(name, what="The name of a callback")
        limit, silence = _duration(timeout, name, "timeout"), _duration(heartbeat, name, "heartbeat")
        self._recorder.check()
        if chain_key is None:
            return Callback(self._new(name, returns, limit, silence, ""))
        checks.check_text(chain_key, what="The key of a callback")
        opening = self._of_chain.get(chain_key)
        if opening is None:
            opening = self._new_of_chain(name, returns, limit, silence, chain_key)
        opening.returns = returns
        return Callback(opening)

    def _new_of_chain(
        self, name: str, returns: Any, limit: timedelta | None, silence: timedelta | None, chain_key: str
    ) -> Opening:
        if len(self._of_chain) >= CHAIN_LIMIT:
            raise DurableError(
                f"A run can have {CHAIN_LIMIT:,} callbacks with a key, those that it has got from the run before it "
                "included. Await what has its answer before continuing as new, and give each a timeout."
            )
        opening = self._of_chain[chain_key] = self._new(name, returns, limit, silence, chain_key)
        return opening

    def _new(
        self, name: str, returns: Any, limit: timedelta | None, silence: timedelta | None, chain_key: str
    ) -> Opening:
        recorded = self._recorder.recorded_callback(name, chain_key)
        if recorded is not None:
            key, address = recorded.key, Address(recorded.token, recorded.url)
        else:
            key = self._new_key(name, of_chain=bool(chain_key))
            address = _Source.make(self._chain_id, key, self._loop.now, limit)
        command = OpenCallback(
            name=name,
            key=key,
            token=address.token,
            url=address.url,
            timeout=limit,
            heartbeat=silence,
            chain_key=chain_key,
        )
        opening = Opening(command, returns, self._loop)
        self._recorder.issue(command, opening)
        return opening

    def _new_key(self, name: str, *, of_chain: bool) -> str:
        """Known before the drain ends, so made from what is asked for instead of from its sequence."""
        source = f"{self._seed} {self._recorder.input} {self._recorder.count(('callback', name))} {name}"
        mark = OF_CHAIN if of_chain else "c"
        return f"{self._key}-{mark}{hashlib.sha256(source.encode()).hexdigest()[:16]}"

    # From run to run of the chain

    def take_over(self, carried: Iterable[events.CarriedCallback]) -> None:
        """The run begins with those that the run before has left to it, before any of its code is run."""
        for one in carried:
            self._of_chain[one.chain_key] = self._taken_over(one)

    def _taken_over(self, one: events.CarriedCallback) -> Opening:
        command = OpenCallback(
            name=one.name,
            key=one.key,
            token=one.token,
            url=one.url,
            timeout=_from_microseconds(one.timeout),
            heartbeat=_from_microseconds(one.heartbeat),
            chain_key=one.chain_key,
            carried=True,
        )
        opening = Opening(command, Any, self._loop)
        outcome = one.completed or one.failed
        if outcome is not None:
            opening.keep(outcome)
            return opening
        opening.again = True
        self._recorder.recorded_callback(one.name, one.chain_key)
        self._recorder.issue(command, opening)
        return opening

    def carried(self) -> tuple[events.CarriedCallback, ...]:
        """Those of the chain whose outcome nobody has got, for the next run."""
        return tuple(_carried(one) for one in self._of_chain.values() if not one.awaited)

    # What happens to it

    def keep(self, opening: Opening, recorded: events.Event | None) -> None:
        """Its command has got a sequence."""
        self.pending[opening.command.sequence] = opening

    def complete(self, event: events.ActivityCompleted) -> None:
        self.pending.pop(event.activity).keep(event)

    def fail(self, event: events.ActivityFailed) -> None:
        self.pending.pop(event.activity).keep(event)

    # Looking

    def describe(self, future: Any) -> str | None:
        """What a wait for ``future`` is, if it is one for a callback."""
        for opening in self.pending.values():
            if opening.promise.is_awaited_by(future):
                return f"callback {opening.command.name}"
        return None

    def clear(self) -> None:
        self.pending.clear()
        self._of_chain.clear()


def _carried(opening: Opening) -> events.CarriedCallback:
    command, outcome = opening.command, opening.outcome
    return events.CarriedCallback(
        chain_key=command.chain_key,
        name=command.name,
        key=command.key,
        token=command.token,
        url=command.url,
        timeout=_microseconds(command.timeout),
        heartbeat=_microseconds(command.heartbeat),
        completed=outcome if isinstance(outcome, events.ActivityCompleted) else None,
        failed=outcome if isinstance(outcome, events.ActivityFailed) else None,
    )


def _microseconds(duration: timedelta | None) -> int | None:
    return None if duration is None else duration // timedelta(microseconds=1)


def _from_microseconds(count: int | None) -> timedelta | None:
    return None if count is None else timedelta(microseconds=count)


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
