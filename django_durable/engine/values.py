"""Values that come from outside the code, and are the same in every replay: random numbers and side effects."""

from __future__ import annotations

import inspect
import random
import typing
import uuid
from collections.abc import Callable
from typing import Any

from django_durable.engine.commands import RecordSideEffect
from django_durable.engine.recorder import Recorder
from django_durable.engine.tasks import mix
from django_durable.exceptions import DefinitionError, WorkflowSuspended
from django_durable.payloads import codec
from django_durable.payloads.payload import Payload

_RANDOM, _UUID = -1, -2  # streams of the run's seed; tasks and futures have the positive numbers


class Values:
    """The run's streams of random numbers, and its recorded side effects."""

    __slots__ = ("_random", "_recorder", "_seed", "_uuids")

    def __init__(self, seed: int, recorder: Recorder) -> None:
        self._seed = seed
        self._recorder = recorder
        self._random: random.Random | None = None
        self._uuids: random.Random | None = None

    def random(self) -> random.Random:
        self._refuse_reading()
        if self._random is None:
            self._random = random.Random(mix(self._seed, _RANDOM))
        return self._random

    def uuid4(self) -> uuid.UUID:
        self._refuse_reading()
        if self._uuids is None:
            self._uuids = random.Random(mix(self._seed, _UUID))
        return uuid.UUID(int=self._uuids.getrandbits(128), version=4)

    def side_effect(self, function: Callable[[], Any]) -> Any:
        name = getattr(function, "__name__", repr(function))
        if inspect.iscoroutinefunction(function):
            raise DefinitionError(f"ctx.side_effect() calls a plain function at once, but {name} is async.")
        recorder = self._recorder
        what = f"The value of side effect {name}"
        payload = recorder.recorded_effect().value if recorder.replaying else self._make(function, what)
        recorder.issue(RecordSideEffect(value=payload))
        return codec.decode(payload, _returned_by(function), what=what)

    def _refuse_reading(self) -> None:
        """A number drawn by code that only looks would be missing in a replay."""
        if self._recorder.reading:
            self._recorder.check()

    def _make(self, function: Callable[[], Any], what: str) -> Payload:
        # An error must not reach the workflow: nothing would be recorded, and a replay could not raise it again.
        self._recorder.check()
        try:
            return codec.encode(function(), what=what)
        except WorkflowSuspended:
            raise
        except BaseException as error:
            self._recorder.fail(error)
            raise


def _returned_by(function: Callable[[], Any]) -> Any:
    try:
        return typing.get_type_hints(function).get("return", Any)
    except Exception:  # callables without annotations raise, and annotations may name anything
        return Any
