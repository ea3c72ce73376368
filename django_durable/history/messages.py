"""What waits in a chain's inbox: values that become events when the run's owner applies them."""

from __future__ import annotations

from typing import get_args

import msgspec

from django_durable.exceptions import PayloadUnreadable
from django_durable.history.failures import Failure
from django_durable.payloads import sealing
from django_durable.payloads.carriers import Carriers
from django_durable.payloads.payload import Payload


class Signal(msgspec.Struct, frozen=True, kw_only=True, tag="signal"):
    name: str
    payload: Payload


class Update(msgspec.Struct, frozen=True, kw_only=True, tag="update"):
    id: str
    name: str
    input: Payload


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag="cancel"):
    reason: str = ""


class Pause(msgspec.Struct, frozen=True, kw_only=True, tag="pause"):
    """Tells the owner that the run's row says that it is paused."""

    reason: str = ""


class ActivityResult(msgspec.Struct, frozen=True, kw_only=True, tag="activity", omit_defaults=True):
    """The final outcome of an activity that ran elsewhere: either ``result`` or ``failure``."""

    key: str
    result: Payload | None = None
    failure: Failure | None = None
    attempts: int = 1
    timeout: str | None = None
    interrupted: bool = False
    looks: int = 0  # of ctx.poll() that were made before the one whose outcome it is


class ChildStart(msgspec.Struct, frozen=True, kw_only=True, tag="child_start", omit_defaults=True):
    """Whether a child with an id of its own could be started."""

    key: str
    failure: Failure | None = None


class ChildResult(msgspec.Struct, frozen=True, kw_only=True, tag="child", omit_defaults=True):
    """How a child's chain has ended: with a ``result`` if it is completed, else with a ``failure``."""

    key: str
    status: str
    result: Payload | None = None
    failure: Failure | None = None


class ExternalResult(msgspec.Struct, frozen=True, kw_only=True, tag="external", omit_defaults=True):
    """Whether a message to another workflow was delivered."""

    key: str
    failure: Failure | None = None


class Terminate(msgspec.Struct, frozen=True, kw_only=True, tag="terminate"):
    """The parent has ended: the run ends without its code."""

    reason: str = ""


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A message that cannot be read here: a newer release, a key or a codec is missing. It is never consumed."""

    data: str
    error: str


Message = Signal | Update | Cancel | Pause | ActivityResult | ChildStart | ChildResult | ExternalResult | Terminate
KINDS = tuple(sorted(str(kind.__struct_config__.tag) for kind in get_args(Message)))

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_carriers = Carriers(get_args(Message))


def stopped(key: str, *, attempts: int = 0) -> ActivityResult:
    """The outcome of an activity that was asked to stop and did not run."""
    failure = Failure(type="CancelledError", message="The activity was cancelled.", non_retryable=True)
    return ActivityResult(key=key, failure=failure, attempts=attempts)


def with_looks(outcome: ActivityResult, looks: int) -> ActivityResult:
    """The same outcome after so many looks of ``ctx.poll()`` before."""
    return msgspec.structs.replace(outcome, looks=looks) if looks else outcome


def with_attempts(outcome: ActivityResult, attempts: int) -> ActivityResult:
    """The same outcome of so many attempts."""
    return msgspec.structs.replace(outcome, attempts=attempts)


def encode(message: Message) -> str:
    """The stored form of ``message``."""
    return _encoder.encode(message if sealing.state.is_plain else _carriers.sealed(message)).decode()


def beginning(kind: type[Message]) -> str:
    """How every stored message of a kind begins that has no payload."""
    return f'{{"type":"{kind.__struct_config__.tag}"'


def decode(data: str) -> Message | Unreadable:
    """Read a stored message, its payloads opened. One that cannot be read here comes back as such."""
    try:
        message = _decoder.decode(data)
        return _carriers.opened(message) if _carriers.is_sealed(message) else message
    except PayloadUnreadable as error:
        return Unreadable(data=data, error=str(error))
    except msgspec.MsgspecError as error:
        return Unreadable(data=data, error=f"It was written by a newer release of django_durable: {error}. Upgrade.")
