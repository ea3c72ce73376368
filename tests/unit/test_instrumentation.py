"""Instrumentation tells whoever listens, and never gets in the way."""

from __future__ import annotations

from typing import Any

import pytest
from django.dispatch import Signal

from django_durable import instrumentation


def test_receivers_get_the_named_arguments() -> None:
    signal, heard = Signal(), list[dict[str, Any]]()

    def receiver(**named: Any) -> None:
        heard.append(named)

    instrumentation.send(signal, runs=1)
    signal.connect(receiver)
    instrumentation.send(signal, runs=2)
    assert heard == [{"signal": signal, "sender": None, "runs": 2}]


def test_a_receiver_that_raises_is_logged_and_stops_neither_sender_nor_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    signal, heard = Signal(), list[int]()

    def broken(**named: Any) -> None:
        raise ValueError("broken receiver")

    def receiver(**named: Any) -> None:
        heard.append(named["runs"])

    signal.connect(broken)
    signal.connect(receiver)
    instrumentation.send(signal, runs=3)
    assert heard == [3]
    assert "broken receiver" in caplog.text


def test_django_itself_failing_to_call_receivers_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    signal = Signal()

    def receiver(**named: Any) -> None: ...

    def fail(**named: Any) -> None:
        raise RuntimeError("dispatch failed")

    signal.connect(receiver)
    monkeypatch.setattr(signal, "send_robust", fail)
    instrumentation.send(signal)
    assert "dispatch failed" in caplog.text
