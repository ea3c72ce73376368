"""Encryption with keys that can be changed: Fernet of the cryptography package."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from cryptography import fernet

from django_durable.exceptions import PayloadUnreadable
from django_durable.payloads.codecs.base import Codec


class Fernet(Codec):
    """AES-128 in CBC mode with an HMAC-SHA256, as `Fernet <https://github.com/fernet/spec>`_ has it.

    The first of ``keys`` encrypts, every one of them decrypts. A key is what ``Fernet.generate_key()`` gives.
    """

    name = "fernet"

    def __init__(self, *, keys: Sequence[str | bytes]) -> None:
        if isinstance(keys, str | bytes) or not keys:
            raise ValueError("keys must be a list of keys, the one that encrypts first.")
        try:
            self._fernet = fernet.MultiFernet([fernet.Fernet(key) for key in keys])
        except (ValueError, TypeError, AttributeError):  # the error's text may show the key
            raise ValueError("one of keys is none that cryptography.fernet.Fernet.generate_key() gave.") from None
        self._fingerprints = sorted(hashlib.sha256(_bytes(key)).hexdigest()[:8] for key in keys)

    def encode(self, data: bytes) -> bytes:
        return base64.urlsafe_b64decode(self._fernet.encrypt(data))  # text again only when the payload is stored

    def decode(self, data: bytes, *, limit: int) -> bytes:
        try:
            return self._fernet.decrypt(base64.urlsafe_b64encode(data))
        except fernet.InvalidToken as error:
            raise PayloadUnreadable(
                "none of the configured keys opens it, or it was changed. Put the key that it was encrypted with "
                "behind the first one"
            ) from error

    @property
    def identity(self) -> str:
        return f"{self.name} {' '.join(self._fingerprints)}"


def _bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else bytes(key)
