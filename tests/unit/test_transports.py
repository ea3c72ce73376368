"""Transports without their servers: how the settings choose them, and how hints wait to be sent."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import override_settings

from django_durable import transports
from django_durable.exceptions import DefinitionError
from django_durable.transports import choice, sending
from django_durable.transports.base import Listener, Transport, Wake
from django_durable.transports.polling import PollingTransport, Silence
from django_durable.transports.sending import NotSent, Sender
from django_durable.transports.sqs import SqsTransport

PATIENCE = 20.0


class Pigeons(Transport):
    """A project's own transport."""

    OPTIONS = {"LOFT": "cellar"}
    sent: list[tuple[str, str, object]] = []

    def work(self, queue: str) -> None:
        self.sent.append((self.alias, self.options["LOFT"], queue))

    def message(self, worker: int) -> None:
        raise RuntimeError("a hawk")

    def listen(self, queues: tuple[str, ...], worker: int, wake: Wake) -> Listener:
        return Silence()

    def close(self) -> None:
        self.sent.append((self.alias, "closed", None))


class WhiteFlag:
    """Something else."""


@pytest.fixture(autouse=True)
def _empty_lofts() -> Iterator[None]:
    Pigeons.sent.clear()
    yield
    choice.close()


def pigeons(**options: Any) -> dict[str, Any]:
    return {"BACKEND": f"{__name__}.Pigeons", "OPTIONS": options}


def test_a_projects_own_transport_is_named_by_its_path() -> None:
    with override_settings(DURABLE={"TRANSPORTS": {"near": pigeons(), "far": pigeons(LOFT="roof")}}):
        transports.hint_work("mail")
    assert Pigeons.sent == [("near", "cellar", "mail"), ("far", "roof", "mail")]


def test_names_and_a_dict_of_aliases_mean_the_same() -> None:
    for chosen in (("polling",), ["polling"], {"any": {"BACKEND": "polling"}}):
        with override_settings(DURABLE={"TRANSPORTS": chosen}):
            assert [type(one) for one in transports.all()] == [PollingTransport]


def test_a_transport_is_made_once_and_closed_when_the_settings_change() -> None:
    with override_settings(DURABLE={"TRANSPORTS": {"near": pigeons()}}):
        assert transports.all() == transports.all()
        assert Pigeons.sent == []
    with override_settings(DURABLE={"TRANSPORTS": ("polling",)}):
        transports.all()
    assert Pigeons.sent == [("near", "closed", None)]


def test_what_a_transport_raises_is_not_the_callers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "django_durable.transports")
    with override_settings(DURABLE={"TRANSPORTS": {"near": pigeons()}}):
        transports.hint_message(7)
    assert "worker 7 was lost: a hawk" in caplog.text


def test_a_wrong_transport_does_not_undo_what_is_committed(caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(DURABLE={"TRANSPORTS": {"near": pigeons(NEST=1)}}):
        transports.hint_work("mail")
    assert "queue mail cannot be sent: Transport 'near' has no option 'NEST'" in caplog.text


def test_a_wrong_transport_says_what_is_wrong() -> None:
    with override_settings(DURABLE={"TRANSPORTS": {"near": pigeons(NEST=1)}}):
        with pytest.raises(DefinitionError, match="'near' has no option 'NEST'"):
            transports.all()


class Post:
    """What is sent, and a server that can be down or slow."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        self.fails = False
        self.tries = 0
        self.door = threading.Event()
        self.door.set()

    def send(self, addresses: list[str]) -> None:
        self.tries += 1
        assert self.door.wait(PATIENCE)
        if self.fails:
            raise ConnectionError("nobody there")
        self.sent.append(addresses)


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
def sender(post: Post) -> Iterator[Sender[str]]:
    sender: Sender[str] = Sender(post.send, name="post")
    yield sender
    post.door.set()
    sender.close()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_hints_are_sent_by_another_thread(post: Post, sender: Sender[str]) -> None:
    sender.put("a")
    assert sender.wait_until_sent(PATIENCE)
    assert post.sent == [["a"]]


def test_hints_to_one_address_that_wait_are_one(post: Post, sender: Sender[str]) -> None:
    post.door.clear()
    sender.put("first")
    wait_for(lambda: post.tries == 1)
    for _ in range(100):
        sender.put("a")
        sender.put("b")
    post.door.set()
    assert sender.wait_until_sent(PATIENCE)
    assert post.sent == [["first"], ["a", "b"]]


def test_a_hint_that_follows_closely_on_another_is_sent_too(post: Post, sender: Sender[str]) -> None:
    for expected in (1, 2, 3):
        sender.put("a")
        assert sender.wait_until_sent(PATIENCE)
        assert post.sent == [["a"]] * expected


def test_a_server_that_is_down_is_tried_again_and_keeps_nobody_waiting(post: Post, sender: Sender[str]) -> None:
    post.fails = True
    sender.put("a")
    wait_for(lambda: post.tries >= 2)
    assert not sender.wait_until_sent(PATIENCE)
    sender.put("b")
    post.fails = False
    wait_for(lambda: sorted(address for some in post.sent for address in some) == ["a", "b"])


def test_a_server_that_is_down_for_long_is_not_remembered_without_limit(
    post: Post, sender: Sender[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "MOST_WAITING", 3)
    post.fails = True
    for number in range(10):
        sender.put(str(number))
    wait_for(lambda: post.tries >= 2)
    post.fails = False
    assert len(sender._waiting) <= 3
    wait_for(lambda: bool(post.sent))


def test_a_sender_that_is_closed_has_sent_what_waited(post: Post, sender: Sender[str]) -> None:
    sender.put("a")
    sender.close()
    sender.put("b")
    assert post.sent == [["a"]]


def test_what_could_be_sent_is_not_sent_again_with_the_rest(post: Post) -> None:
    tries: list[list[str]] = []

    def send(addresses: list[str]) -> None:
        tries.append(addresses)
        if len(tries) == 1:
            raise NotSent(["bad"], "nobody there")

    sender: Sender[str] = Sender(send, name="post")
    sender.put("good")
    sender.put("bad")
    wait_for(lambda: len(tries) == 2)
    sender.close()
    assert tries[1] == ["bad"]


def test_a_sender_that_rests_has_no_thread_until_the_next_hint(post: Post, sender: Sender[str]) -> None:
    sender.put("a")
    thread = sender._thread
    assert thread is not None
    sender.rest(PATIENCE)
    assert (post.sent, sender._thread, thread.is_alive()) == ([["a"]], None, False)
    sender.put("b")
    assert sender.wait_until_sent(PATIENCE)
    assert post.sent == [["a"], ["b"]]


def sqs(**options: Any) -> dict[str, Any]:
    return {"TRANSPORTS": {"hints": {"BACKEND": "sqs", "OPTIONS": options}}}


def test_sqs_needs_a_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with override_settings(DURABLE=sqs()), pytest.raises(DefinitionError, match=r"'hints' needs a region"):
        transports.all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"PREFIX": "a/b"}, "PREFIX is 'a/b'"), ({"LONG_POLL_SECONDS": 21}, "LONG_POLL_SECONDS is 21")],
    ids=["prefix", "long poll"],
)
def test_sqs_says_which_option_cannot_work(wrong: dict[str, Any], message: str) -> None:
    with override_settings(DURABLE=sqs(CLIENT={"region_name": "eu-west-1"}, **wrong)):
        with pytest.raises(DefinitionError, match=message):
            transports.all()


def test_queues_of_any_name_have_names_of_their_own_in_sqs() -> None:
    with override_settings(DURABLE=sqs(CLIENT={"region_name": "eu-west-1"})):
        [transport] = transports.all()
    assert isinstance(transport, SqsTransport)
    queues = ["default", "worker_1", "_worker_1", "a b", "a:b", "ü" * 200, "x" * 200, "x" * 201]
    names = [transport.account.name_of(queue) for queue in queues]
    assert names[:2] == ["durable-default", "durable-worker_1"]
    assert len({*names, transport.account.name_of_worker(1)}) == len(queues) + 1
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,75}", name) for name in names)
