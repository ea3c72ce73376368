"""What clients and servers say to each other, as far as a proxy has to understand it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar


class Wire(ABC):
    """One connection's protocol."""

    PORT: ClassVar[int]
    CLEAR: ClassVar[str]
    """What a URL ends with so that nothing is encrypted."""

    @abstractmethod
    def first_request(self, data: bytes) -> bytes:
        """The first request if it is there as a whole, else nothing."""

    @abstractmethod
    def is_commit(self, request: bytes) -> bool:
        """Whether it asks for a COMMIT."""

    @staticmethod
    @abstractmethod
    def has_answer(data: bytes) -> bool:
        """Whether ``data`` holds the whole answer to a COMMIT."""


class Postgres(Wire):
    PORT = 5432
    CLEAR = "sslmode=disable"
    READY = b"Z"
    QUERY, PARSE = b"Q", b"P"

    def __init__(self) -> None:
        self._is_started = False

    def first_request(self, data: bytes) -> bytes:
        """The very first ones of a connection have no type."""
        request = _message(data, typed=self._is_started)
        self._is_started = self._is_started or (bool(request) and not _asks_for_encryption(request))
        return request

    def is_commit(self, request: bytes) -> bool:
        """A simple query, or the parsing of a statement."""
        kind, body = request[:1], request[5:]
        if kind == self.PARSE:
            body = body.partition(b"\0")[2]  # the statement's name comes first
        return kind in (self.QUERY, self.PARSE) and _says_commit(body.split(b"\0")[0])

    @staticmethod
    def has_answer(data: bytes) -> bool:
        while message := _message(data, typed=True):
            if message[:1] == Postgres.READY:
                return True
            data = data[len(message) :]
        return False


def _message(data: bytes, *, typed: bool) -> bytes:
    start = 1 if typed else 0
    if len(data) < start + 4:
        return b""
    end = start + int.from_bytes(data[start : start + 4], "big")
    return data[:end] if len(data) >= end else b""


def _asks_for_encryption(request: bytes) -> bool:
    """SSLRequest and GSSENCRequest come before the real start of a connection; this server says no to both."""
    return int.from_bytes(request[4:8], "big") in (80_877_103, 80_877_104)


class Mariadb(Wire):
    """Packets: three bytes of length, one that counts those of a request and its answer, then the content."""

    PORT = 3306
    CLEAR = "ssl_mode=DISABLED"
    HEADER = 4
    QUERY = 3

    def first_request(self, data: bytes) -> bytes:
        return self._packet(data)

    def is_commit(self, request: bytes) -> bool:
        number, content = request[3], request[self.HEADER :]
        return number == 0 and content[:1] == bytes([self.QUERY]) and _says_commit(content[1:])

    @staticmethod
    def has_answer(data: bytes) -> bool:
        """It is one packet, whether it says yes or no."""
        return bool(Mariadb._packet(data))

    @staticmethod
    def _packet(data: bytes) -> bytes:
        end = Mariadb.HEADER + int.from_bytes(data[:3], "little")
        return data[:end] if len(data) >= Mariadb.HEADER and len(data) >= end else b""


def _says_commit(sql: bytes) -> bool:
    return sql.strip(b" ;").upper() == b"COMMIT"


WIRES: dict[str, type[Wire]] = {"postgresql": Postgres, "mysql": Mariadb}
"""By the vendor's name."""
