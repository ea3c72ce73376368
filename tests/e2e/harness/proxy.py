"""A TCP proxy before a database server that understands just enough to lose the replies to COMMIT."""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from enum import Enum
from types import TracebackType
from typing import Self

from tests.e2e.harness.wire import Wire

CHUNK = 65_536


class Cut(Enum):
    """How a connection is cut at a COMMIT."""

    REPLY_LOST = "answered, but the answer is lost"
    IN_COMMIT = "cut as soon as the COMMIT is sent"
    NEVER_SENT = "cut before the COMMIT arrives"


class CuttingProxy:
    """Forwards connections to ``server``; cuts one in ``1 / share`` of them at a COMMIT, as ``cuts`` says by weight.

    ``wire``: what is spoken there.
    """

    def __init__(
        self, server: tuple[str, int], wire: type[Wire], *, share: float, cuts: dict[Cut, int], seed: int
    ) -> None:
        self.wire = wire
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
        wire, waiting = self._proxy.wire(), b""
        try:
            while data := self._client.recv(CHUNK):
                waiting += data
                while request := wire.first_request(waiting):
                    waiting = waiting[len(request) :]
                    if not self._pass_on(request, is_commit=wire.is_commit(request)):
                        return
        except OSError:
            pass
        finally:
            self._end()

    def _pass_on(self, request: bytes, *, is_commit: bool) -> bool:
        """Send a request on. False: the connection is to be cut now."""
        cut = self._proxy.decide() if is_commit else None
        if cut is Cut.NEVER_SENT:
            return False
        if cut is Cut.REPLY_LOST:
            self._swallow.set()
        self._server.sendall(request)
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
                if self._proxy.wire.has_answer(swallowed):
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
