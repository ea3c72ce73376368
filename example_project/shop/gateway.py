"""A pretended payment gateway: it takes its time, and it knows idempotency keys, as real ones do."""

from __future__ import annotations

import hashlib
import random
import time

DECLINED_CENTS = 2_500
"""The amount that the bank always declines, so that a failing workflow can be looked at."""


class CardDeclined(Exception):
    """The bank said no. Asking again will not change its mind."""


def charge(cents: int, *, idempotency_key: str) -> str:
    """Charge a card and return the receipt's number. The same key is charged once and gets the same receipt."""
    answer_after_a_while()
    if cents == DECLINED_CENTS:
        raise CardDeclined("The card was declined.")
    return f"rcpt-{hashlib.sha256(idempotency_key.encode()).hexdigest()[:12]}"


def answer_after_a_while() -> None:
    """Sleep for 50 to 150 milliseconds, as a call over a network does."""
    time.sleep(random.uniform(0.05, 0.15))
