"""No transport at all: workers look at the database at intervals that adapt to what they find."""

from __future__ import annotations

from django_durable.transports.base import Listener, Transport, Wake


class Silence:
    """The listener that never hears anything."""

    hears = False

    def close(self) -> None:
        pass


class PollingTransport(Transport):
    """Sends nothing and hears nothing."""

    def work(self, queue: str) -> None:
        pass

    def message(self, worker: int) -> None:
        pass

    def listen(self, queues: tuple[str, ...], worker: int, wake: Wake) -> Listener:
        return Silence()
