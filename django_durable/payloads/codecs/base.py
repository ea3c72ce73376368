"""What every codec can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar


class Codec(ABC):
    """Turns the bytes of a stored value into others, such as compressed or encrypted ones, and back.

    ``OPTIONS`` of the settings are the arguments of ``__init__``. A codec is used by many threads at a time.
    """

    name: ClassVar[str]
    """Stands in every payload that it has written, and finds it again when that is read. Never changed, no ``+``."""

    @abstractmethod
    def encode(self, data: bytes) -> bytes | None:
        """``data`` as it is to be stored. None: it is not worth it, and stays as it is."""

    @abstractmethod
    def decode(self, data: bytes, *, limit: int) -> bytes:
        """What ``encode`` was given. Raises ``PayloadUnreadable``, also for a result of more than ``limit`` bytes."""

    offloads: ClassVar[bool] = False
    """Whether what it returns only says where the value is."""

    def discard(self, data: bytes) -> None:  # noqa: B027, most codecs keep nothing
        """Delete what ``encode`` has put elsewhere: nobody refers to it any more. May be called twice."""

    @property
    def identity(self) -> str:
        """A text that changes when values can be read that could not be read before. No secret may follow from it."""
        return self.name
