"""A TCP proxy before PostgreSQL that understands just enough to lose the replies to COMMIT."""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from enum import Enum
from types import TracebackType
from typing import Self

READY = b"Z"
QUERY, PARSE = b"Q", b"P"
CHUNK = 65_536


class Cut(Enum):
    """How a connection is cut at a COMMIT."""

    REPLY_LOST = "answered, but the answer is lost"
    IN_COMMIT = "cut as soon as the COMMIT is sent"
    NEVER_SENT = "cut before the COMMIT arrives"


class CuttingProxy:
    """Forwards connections to ``server``; cuts one in ``1 / share`` of them at a COMMIT, as ``cuts`` says by weight."""

    def __init__(self, server: tuple[str, int], *, share: float, cuts: dict[Cut, int], seed: int) -> None:
        self.counts: Counter[Cut] = Counter()
        self.commits = 0
        self._server = server
        self._share = share
        self._cuts = cuts
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._links: set[Link] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, name="cutting-proxy", daemon=True)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def decide(self) -> Cut | None:
        """Whether this COMMIT is one to be cut at."""
        with self._lock:
            self.commits += 1
            if self._chance.random() >= self._share:
                return None
            cut = self._chance.choices(list(self._cuts), list(self._cuts.values()))[0]
            self.counts[cut] += 1
            return cut

    def stop_cutting(self) -> None:
        self._share = 0.0

    def forget(self, link: Link) -> None:
        with self._lock:
            self._links.discard(link)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            link = Link(self, client, server)
            with self._lock:
                self._links.add(link)
            link.start()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for link in list(self._links):
            link.cut()
            link.join()


class Link:
    """One client's connection through the proxy: a thread for each direction."""

    def __init__(self, proxy: CuttingProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._swallow = threading.Event()  # the next answer is not passed on
        self._threads = [
            threading.Thread(target=self._forward, name="proxy-requests", daemon=True),
            threading.Thread(target=self._return, name="proxy-replies", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def cut(self) -> None:
        """End both sides."""
        for side in (self._client, self._server):
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:  # it has ended already
                continue

    def _forward(self) -> None:
        """Requests, message by message: only whole ones tell what they are."""
        waiting, is_started = b"", False
        try:
            while data := self._client.recv(CHUNK):
                waiting += data
                while message := _first_message(waiting, typed=is_started):
                    waiting = waiting[len(message) :]
                    is_started = is_started or not _asks_for_encryption(message)
                    if not self._pass_on(message):
                        return
        except OSError:
            pass
        finally:
            self._end()

    def _pass_on(self, message: bytes) -> bool:
        """Send a request on. False: the connection is to be cut now."""
        cut = self._proxy.decide() if _is_commit(message) else None
        if cut is Cut.NEVER_SENT:
            return False
        if cut is Cut.REPLY_LOST:
            self._swallow.set()
        self._server.sendall(message)
        return cut is not Cut.IN_COMMIT

    def _return(self) -> None:
        """Replies. The one to a COMMIT that is to be lost is read to its end, then the connection is cut."""
        swallowed = b""
        try:
            while data := self._server.recv(CHUNK):
                if not self._swallow.is_set():
                    self._client.sendall(data)
                    continue
                swallowed += data
                while message := _first_message(swallowed, typed=True):
                    swallowed = swallowed[len(message) :]
                    if message[:1] == READY:
                        return
        except OSError:
            pass
        finally:
            self._end()

    def _end(self) -> None:
        self.cut()
        if threading.current_thread() is self._threads[0]:
            self._threads[1].join()
            self._client.close()
            self._server.close()
            self._proxy.forget(self)


def _first_message(data: bytes, *, typed: bool) -> bytes:
    """The first message if it is there as a whole, else nothing. The very first ones of a connection have no type."""
    start = 1 if typed else 0
    if len(data) < start + 4:
        return b""
    end = start + int.from_bytes(data[start : start + 4], "big")
    return data[:end] if len(data) >= end else b""


def _asks_for_encryption(message: bytes) -> bool:
    """SSLRequest and GSSENCRequest come before the real start of a connection; this server says no to both."""
    return int.from_bytes(message[4:8], "big") in (80_877_103, 80_877_104)


def _is_commit(message: bytes) -> bool:
    """A simple query, or the parsing of a statement, that is a COMMIT."""
    kind, body = message[:1], message[5:]
    if kind == PARSE:
        body = body.partition(b"\0")[2]  # the statement's name comes first
    return kind in (QUERY, PARSE) and body.split(b"\0")[0].strip(b" ;").upper() == b"COMMIT"
