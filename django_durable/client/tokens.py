"""Signed addresses of activities and callbacks: whoever has one may tell their outcome.

Signed with ``SECRET_KEY``; what was signed with one of ``SECRET_KEY_FALLBACKS`` is still good.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.core import signing
from django.urls import NoReverseMatch, reverse

from django_durable import conf
from django_durable.engine.callbacks import Address
from django_durable.exceptions import InvalidToken

SALT = "django_durable.token"


class Place(NamedTuple):
    """What a token stands for. ``expires``: seconds since 1970, None: never by itself."""

    chain_id: UUID
    key: str
    expires: int | None


def make(chain_id: UUID, key: str, *, expires: datetime | None = None) -> str:
    """The token of an activity or a callback."""
    return _signer().sign_object([chain_id.hex, key, int(expires.timestamp()) if expires else None])


def read(token: str) -> Place:
    """What ``token`` stands for. Raises ``InvalidToken``."""
    try:
        chain, key, expires = _signer().unsign_object(token)
        return Place(UUID(chain), key, expires)
    except (signing.BadSignature, ValueError, TypeError) as error:
        raise InvalidToken("This token was not made by this project, or its SECRET_KEY is another one now.") from error


def address(chain_id: UUID, key: str, opened_at: datetime, timeout: timedelta | None) -> Address:
    """Token and URL of a callback. Both are of no use any more when it has timed out."""
    life = timeout if timeout is not None else timedelta(seconds=conf.current().CALLBACK_SECONDS)
    token = make(chain_id, key, expires=opened_at + life)
    return Address(token, _url(token))


def _url(token: str) -> str:
    try:
        path = reverse("django_durable:callback", args=[token])
    except NoReverseMatch:
        return ""
    return conf.current().CALLBACK_URL.rstrip("/") + path


def _signer() -> signing.Signer:
    return signing.Signer(salt=SALT)
