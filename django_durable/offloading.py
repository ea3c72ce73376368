"""Large payloads in a Django storage instead of the database: the row keeps where they are, and what they must be."""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime
from uuid import uuid4

from django.core.files.base import ContentFile
from django.core.files.storage import storages

from django_durable.exceptions import PayloadUnreadable
from django_durable.payloads.codecs.base import Codec

logger = logging.getLogger("django_durable")

_DIGEST = hashlib.sha256().digest_size


class Storage(Codec):
    """Keeps values of at least ``from_bytes`` bytes in the storage of that alias of ``STORAGES``.

    An object is written before the transaction that refers to it, under a new name, never changed, and deleted with its
    run: what a rolled back transaction or a message leaves behind is for the storage's own rules to remove.
    """

    name = "storage"
    offloads = True

    def __init__(self, *, storage: str = "default", from_bytes: int = 64 * 1024, prefix: str = "durable") -> None:
        if storage not in storages.backends:
            raise ValueError(f"storage is {storage!r}, which is not in STORAGES.")
        if from_bytes < 0:
            raise ValueError(f"from_bytes is {from_bytes!r}, but must be a number of bytes.")
        self._alias = storage
        self._from_bytes = from_bytes
        self._prefix = prefix

    def encode(self, data: bytes) -> bytes | None:
        if len(data) < self._from_bytes:
            return None
        name = f"{self._prefix}/{datetime.now(UTC):%Y/%m/%d}/{uuid4().hex}"
        try:
            stored = storages[self._alias].save(name, ContentFile(data))
        except Exception:  # each storage has errors of its own; the database can hold the value as well
            logger.exception("Storage %r took no payload of %s bytes: it is in the database.", self._alias, len(data))
            return None
        return hashlib.sha256(data).digest() + stored.encode()

    def discard(self, data: bytes) -> None:
        storages[self._alias].delete(data[_DIGEST:].decode())

    def decode(self, data: bytes, *, limit: int) -> bytes:
        digest, name = data[:_DIGEST], data[_DIGEST:].decode()
        try:
            with storages[self._alias].open(name) as file:
                content: bytes = file.read(limit + 1)
        except FileNotFoundError as error:
            raise PayloadUnreadable(f"{name!r} is missing in storage {self._alias!r}. Restore it there") from error
        if len(content) > limit:
            raise PayloadUnreadable(f"{name!r} in storage {self._alias!r} has more than {limit:,} bytes")
        if hashlib.sha256(content).digest() != digest:
            raise PayloadUnreadable(f"{name!r} in storage {self._alias!r} was changed. Restore what was written")
        return content
