"""The shop as seen from outside: a browser's worth of HTTP."""

from __future__ import annotations

import http.cookiejar
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

TIMEOUT_SECONDS = 30


class ShopClient:
    """Places orders and asks for their status, by HTTP only."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._cookies = http.cookiejar.CookieJar()
        # No proxy: the shop runs on this machine.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self._cookies)
        )

    def wait_until_open(self, seconds: float) -> None:
        """Return as soon as the shop's page answers. Raises ``TimeoutError``."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._request("/")
                return
            except urllib.error.HTTPError:
                raise  # it answers, and something is wrong with the page
            except OSError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"The shop did not answer at {self.address} within {seconds:.0f} s.") from None
            time.sleep(0.1)

    def place_order(self, customer: str, item: str) -> dict[str, Any]:
        """POST the order form. Returns the view's answer."""
        return self._json("/orders/", {"customer": customer, "item": item})

    def status(self, order: int) -> dict[str, Any]:
        """What the shop's status view says of an order."""
        return self._json(f"/orders/{order}/")

    def _json(self, path: str, form: Mapping[str, str] | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._request(path, form))
        return answer

    def _request(self, path: str, form: Mapping[str, str] | None = None) -> bytes:
        body = urllib.parse.urlencode(form).encode() if form is not None else None
        token = next((cookie.value for cookie in self._cookies if cookie.name == "csrftoken"), None)
        request = urllib.request.Request(self.address + path, data=body, headers={"X-CSRFToken": token or ""})
        with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            content: bytes = response.read()
        return content
