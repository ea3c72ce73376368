"""Whom a commit concerns: runs that have messages, queues that have work, and queues that have room again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from uuid import UUID

from django_durable import transports
from django_durable.client import messaging
from django_durable.store import dispatch, flush
from django_durable.worker.holdings import Holdings
from django_durable.worker.serving import Serving
from django_durable.worker.taking import Taking


class Teller:
    """Tells this worker what it has to read, and hints to others what has come for them."""

    def __init__(
        self,
        *,
        holdings: Holdings,
        taking: Taking,
        serving: Serving,
        wake: Callable[[], None],
        on_ending: Callable[[Collection[UUID]], None],
    ) -> None:
        self._holdings = holdings
        self._taking = taking
        self._serving = serving
        self._wake = wake
        self._on_ending = on_ending

    def tell(self, chains: set[UUID], asked_to_end: Collection[UUID] = ()) -> None:
        """Messages have been written for these: who has them is to read them, who sleeps is to wake up."""
        self._taking.hear(chain for chain in chains if chain in self._holdings.owned)
        others = {chain for chain in chains if chain not in self._holdings.owned}
        messaging.hint_all(others.difference(asked_to_end))
        ending = others.intersection(asked_to_end)
        if ending:
            messaging.hint_all(ending, holds=(dispatch.DELAYED,))
            self._on_ending(ending)

    def announce(self, result: flush.Result) -> None:
        """Who has got messages in this flush, which queues have new runs, and which queues of others new tasks."""
        self.tell(result.told, result.asked_to_end)
        for queue in result.started | result.spilled.difference(self._serving.queues):
            transports.hint_work(queue)
        if result.started:
            self._wake()

    def tell_of_room(self) -> None:
        """What has ended may let in what its queue has made wait: here, or at another worker."""
        freed, self._holdings.freed = self._holdings.freed, set()
        for queue in freed.intersection(self._taking.governed):
            transports.hint_work(queue)
            self._wake()
