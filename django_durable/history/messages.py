"""What waits in a chain's inbox: values that become events when the run's owner applies them."""

from __future__ import annotations

from typing import get_args

import msgspec

from django_durable.history.failures import Failure
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
    """A message that this release does not know, from a newer one. It is never consumed, only left to that."""

    data: str
    error: str


Message = Signal | Update | Cancel | Pause | ActivityResult | ChildStart | ChildResult | ExternalResult | Terminate
KINDS = tuple(sorted(str(kind.__struct_config__.tag) for kind in get_args(Message)))

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


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
    return _encoder.encode(message).decode()


def decode(data: str) -> Message | Unreadable:
    """Read a stored message. What is none that this release knows comes back as such."""
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError as error:
        return Unreadable(data=data, error=str(error))
