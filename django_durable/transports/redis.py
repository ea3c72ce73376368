"""Redis' publish and subscribe, through the project's own django-redis.

Nothing is stored in Redis: there is no list that grows while no worker listens and nothing that a flush could take
away. A hint that meets no listener is gone, and the next look at the database finds what it was about.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from django.core.cache import InvalidCacheBackendError
from django_redis import get_redis_connection
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from django_durable.exceptions import DefinitionError
from django_durable.transports.base import Listener, Transport, Wake
from django_durable.transports.listening import ReconnectingListener
from django_durable.transports.sending import Sender

LISTEN_SECONDS = 1.0  # how long one wait for messages lasts before the thread looks whether it should end
MOST_UNANSWERED = 2  # pings, one after each such wait; then the connection is taken for dead


class RedisTransport(Transport):
    """Hints by PUBLISH, from a thread of its own, over connections of its own with short time limits."""

    OPTIONS = {"CACHE": "default", "PREFIX": "durable", "TIMEOUT_SECONDS": 1.0, "WAIT_SECONDS": 0.0}

    def __init__(self, alias: str, options: Mapping[str, Any]) -> None:
        super().__init__(alias, options)
        self._client = _own_client(_cache_client(alias, self.options["CACHE"]), self.options["TIMEOUT_SECONDS"])
        self._sender: Sender[str] = Sender(self._publish, name=alias)

    def work(self, queue: str) -> None:
        self._put(self._queue_channel(queue))

    def message(self, worker: int) -> None:
        self._put(self._worker_channel(worker))

    def listen(self, queues: tuple[str, ...], worker: int, wake: Wake) -> Listener:
        channels = [*map(self._queue_channel, queues), self._worker_channel(worker)]
        return RedisListener(self._client, channels, wake, name=self.alias)

    def check(self) -> None:
        self._client.ping()

    def rest(self, seconds: float) -> None:
        self._sender.rest(seconds)
        self._client.connection_pool.disconnect()

    def close(self) -> None:
        self._sender.close()
        self._client.connection_pool.disconnect()

    def _queue_channel(self, queue: str) -> str:
        return f"{self.options['PREFIX']}:queue:{queue}"

    def _worker_channel(self, worker: int) -> str:
        return f"{self.options['PREFIX']}:worker:{worker}"

    def _put(self, channel: str) -> None:
        self._sender.put(channel)
        if self.options["WAIT_SECONDS"]:
            self._sender.wait_until_sent(self.options["WAIT_SECONDS"])

    def _publish(self, channels: list[str]) -> None:
        with self._client.pipeline(transaction=False) as pipeline:
            for channel in channels:
                pipeline.publish(channel, "")
            pipeline.execute()


class RedisListener(ReconnectingListener):
    """Subscribes; after each second of silence it asks whether Redis is still there."""

    def __init__(self, client: Redis, channels: list[str], wake: Wake, *, name: str) -> None:
        self._client = client
        self._channels = channels
        super().__init__(wake, name=name)

    def _hear(self) -> None:
        with self._client.pubsub() as subscription:  # type: ignore[no-untyped-call]
            subscription.subscribe(*self._channels)
            unanswered = 0
            while not self._closed.is_set():
                heard = subscription.get_message(timeout=LISTEN_SECONDS)
                if heard is not None:
                    unanswered = 0
                    self._take(heard)
                elif unanswered < MOST_UNANSWERED:
                    unanswered += 1
                    subscription.ping()
                else:
                    raise RedisError("Redis has stopped to answer")

    def _take(self, heard: Mapping[str, Any]) -> None:
        """What was published before the last channel was subscribed to was missed: that confirmation is a hint too."""
        if heard["type"] == "subscribe" and heard["data"] < len(self._channels):
            return
        self._heard(hint=heard["type"] in ("message", "subscribe"))


def _cache_client(alias: str, cache: str) -> Redis:
    """The client of one of the project's caches. Opens no connection."""
    try:
        client: Redis = get_redis_connection(cache, write=True)
    except (InvalidCacheBackendError, NotImplementedError) as error:
        raise DefinitionError(
            f"Transport {alias!r} needs a cache of django-redis, and CACHES[{cache!r}] is none ({error}). Set its "
            f"'BACKEND' to 'django_redis.cache.RedisCache', or name another cache: 'OPTIONS': {{'CACHE': ...}}."
        ) from error
    return client


def _own_client(shared: Redis, timeout: float) -> Redis:
    """A client for the same server, with the same credentials, that does not wait long, on connections of its own."""
    pool = copy.copy(shared.connection_pool)
    pool.connection_kwargs = {
        **pool.connection_kwargs,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),  # there is a longer patience than a client's: the sender's, the listener's
    }
    pool.reset()
    return type(shared)(connection_pool=pool)
