"""Names of functions in rows, signed with ``SECRET_KEY``: whoever can write rows still cannot choose what is called."""

from __future__ import annotations

from django.core import signing

SALT = "django_durable.name"


def sign(name: str) -> str:
    return _signer().sign(name)


def read(stored: str) -> str | None:
    """The name; None if this project has not signed it."""
    try:
        return _signer().unsign(stored)
    except signing.BadSignature:
        return None


def _signer() -> signing.Signer:
    return signing.Signer(salt=SALT)
