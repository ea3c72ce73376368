"""Whole runs whose payloads are packed, compressed, encrypted and kept elsewhere, while the settings change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography import fernet
from django.apps import apps
from django.core.files.storage import storages
from django.db import models

from django_durable import PayloadUnreadable, Schedule, durable
from django_durable.history import codec
from django_durable.models import ActivityTask, Dispatch, HistoryEvent
from django_durable.store import clock
from django_durable.worker import attempts
from tests.flows import workflows
from tests.integration.worker.invariants import assert_invariants
from tests.integration.worker.running import DEADLINE, wait_for

KEY, OTHER = fernet.Fernet.generate_key().decode(), fernet.Fernet.generate_key().decode()
CODECS = "django_durable.payloads.codecs"
ZLIB = {"BACKEND": f"{CODECS}.compression.Zlib", "OPTIONS": {"from_bytes": 64}}
OFFLOADED = {"BACKEND": "django_durable.offloading.Storage", "OPTIONS": {"storage": "payloads", "from_bytes": 1_000}}
WORD = "open sesame"
LONG = "sesame, " * 10_000


def keys(*given: str) -> dict[str, Any]:
    return {"BACKEND": f"{CODECS}.encryption.Fernet", "OPTIONS": {"keys": list(given)}}


PLAIN: dict[str, Any] = {}
ENCRYPTED: dict[str, Any] = {"CODECS": [keys(KEY)]}
EVERYTHING: dict[str, Any] = {"FORMAT": "msgpack", "CODECS": [ZLIB, keys(KEY), OFFLOADED]}
WAYS = [
    PLAIN,
    {"FORMAT": "msgpack"},
    {"FORMAT": "protobuf"},
    {"CODECS": [ZLIB]},
    ENCRYPTED,
    EVERYTHING,
]


@pytest.fixture(autouse=True)
def storage(settings, tmp_path):
    """A Django storage with the alias ``payloads``."""
    backend = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path)}}
    settings.STORAGES = {**settings.STORAGES, "payloads": backend}
    return storages["payloads"]


def formats(handle) -> set[str]:
    """The formats of all payloads in the history of a run."""
    found = set()
    for text in HistoryEvent.objects.filter(run_id=handle.run_id).values_list("data", flat=True):
        for value in json.loads(text).values():
            if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
                found.add(value[0])
    return found


def stored_text() -> str:
    """Everything that this app has in the database, as text."""
    rows: list[Any] = []
    for model in apps.get_app_config("durable").get_models():
        rows += model._default_manager.values_list(*(field.attname for field in text_fields(model)))
    return str(rows)


def text_fields(model: type[models.Model]) -> list[Any]:
    return [field for field in model._meta.concrete_fields if isinstance(field, models.TextField | models.CharField)]


def make_due() -> None:
    """As if the pause of the parked runs were over, of those that the worker's sweep has not offered by itself."""
    parked = Dispatch.objects.filter(hold="blocked")
    wait_for(
        lambda: parked.filter(owner=None).update(wakeup_at=clock.now()) or not parked.exists(), "the run to be parked"
    )


@pytest.mark.parametrize("payloads", WAYS)
def test_a_bit_of_all_that_the_engine_offers_works_in_every_format(worker, configure, payloads):
    configure(PAYLOADS=payloads, INSTANCE_CACHE_SIZE=0)
    handle = durable.start_workflow(workflows.everything, WORD)
    handle.signal(workflows.approved(LONG))
    result = handle.result(timeout=DEADLINE)
    assert (result["receipt"], result["word"]) == (f"{WORD}/paid", LONG)
    assert handle.status().result == result
    assert handle.status().input == {"key": WORD}
    assert handle.history()[0].data["input"] == {"key": WORD}
    assert ("json" in formats(handle)) is (payloads in (PLAIN, {"CODECS": [ZLIB]}))
    assert_invariants(handle)


@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("last", [PLAIN, EVERYTHING])
def test_a_history_that_was_written_in_several_formats_is_read_correctly(worker, configure, first, last):
    """What reads alone is configured without writing, and each step is a replay from the start."""
    reading = [{**one, "WRITE": False} for one in EVERYTHING["CODECS"]]
    configure(PAYLOADS=first, INSTANCE_CACHE_SIZE=0)
    handle = durable.start_workflow(workflows.collect_signals, 4)
    handle.signal(workflows.approved(LONG))
    wait_for(lambda: len(handle.history()) >= 2, "the first signal")
    wait_for(lambda: Dispatch.objects.filter(owner=None, hold=None), "the run to wait")
    configure(PAYLOADS={"FORMAT": "protobuf", "CODECS": [*reading[:2], OFFLOADED]})
    handle.signal(workflows.approved(f"{LONG} and on"))
    wait_for(lambda: len(handle.history()) >= 3, "the second signal")
    wait_for(lambda: Dispatch.objects.filter(owner=None, hold=None), "the run to wait")
    configure(PAYLOADS=last if last is EVERYTHING else {"CODECS": reading})
    handle.signal(workflows.approved("third"))
    handle.signal(workflows.approved("fourth"))
    assert handle.result(timeout=DEADLINE) == [LONG, f"{LONG} and on", "third", "fourth"]
    assert len(formats(handle)) > 1
    assert_invariants(handle)


def test_nothing_that_was_given_stands_in_the_database_in_the_clear(worker, configure):
    configure(PAYLOADS=ENCRYPTED)
    handle = durable.start_workflow(workflows.collect_signals, 2)
    handle.signal(workflows.approved(WORD))
    elsewhere = durable.start_workflow(workflows.call_elsewhere, "flows.repeat", [WORD])
    updated = durable.start_workflow(workflows.cart)
    assert updated.update(workflows.rename(WORD)) == WORD
    paid = durable.start_workflow(workflows.effects, WORD, 2)
    parent = durable.start_workflow(workflows.parent_by_name, "flows.echo", [WORD], {})
    wait_for(lambda: ActivityTask.objects.filter(queue="elsewhere"), "the task")
    assert len(paid.result(timeout=DEADLINE)) == 2
    assert parent.result(timeout=DEADLINE) == WORD
    durable.create_schedule("nightly", Schedule(cron="0 3 * * *"), workflows.echo, WORD)
    assert "flows.collect_signals" in stored_text()
    assert WORD not in stored_text()
    for open_run in (handle, elsewhere, updated):
        open_run.terminate()


def test_keys_are_rotated_under_a_run(worker, configure):
    configure(PAYLOADS=ENCRYPTED, INSTANCE_CACHE_SIZE=0)
    handle = durable.start_workflow(workflows.changing, 4)
    wait_for(lambda: Dispatch.objects.filter(owner=None, epoch=1), "the run to wait for its signal")
    configure(PAYLOADS={"CODECS": [keys(OTHER, KEY)]})
    handle.signal(workflows.approved("yes"))
    assert handle.result(timeout=DEADLINE) == 8
    configure(PAYLOADS={"CODECS": [keys(OTHER)]})
    assert handle.result(timeout=DEADLINE) == 8, "the end was written with the new key"
    with pytest.raises(codec.UnreadableEvent, match="Put the key"):
        handle.history()


@pytest.mark.parametrize("later", [PLAIN, {"CODECS": [keys(OTHER)]}])
def test_a_run_whose_key_is_lost_is_parked_not_failed_and_goes_on_with_the_key(worker, configure, later):
    configure(PAYLOADS=ENCRYPTED, INSTANCE_CACHE_SIZE=0)
    handle = durable.start_workflow(workflows.changing, 4)
    wait_for(lambda: Dispatch.objects.filter(owner=None, epoch=1), "the run to wait for its signal")
    configure(PAYLOADS=later)
    handle.signal(workflows.approved("yes"))
    status = wait_for(lambda: (now := handle.status()).status == "blocked" and now, "the run to be parked")
    assert status.blocked["reason"] == "unreadable"
    assert "The input of RunStarted is stored in the format 'json+fernet'" in status.blocked["message"]
    assert status.input == "<json+fernet>"
    configure(PAYLOADS={"CODECS": [keys(OTHER, KEY)]})  # the signal may have been encrypted with the other one
    make_due()
    assert handle.result(timeout=DEADLINE) == 8
    assert_invariants(handle)


def test_a_message_whose_key_is_lost_parks_its_run_and_is_kept(make_worker, configure):
    handle = durable.start_workflow(workflows.approval)
    configure(PAYLOADS=ENCRYPTED)
    handle.signal(workflows.approved(WORD))
    configure(PAYLOADS=PLAIN)
    make_worker()
    status = wait_for(lambda: (now := handle.status()).status == "blocked" and now, "the run to be parked")
    assert "A message for this run cannot be read. The payload of Signal is stored in" in status.blocked["message"]
    configure(PAYLOADS=ENCRYPTED)
    make_due()
    assert handle.result(timeout=DEADLINE) == WORD
    assert_invariants(handle)


def test_a_result_that_cannot_be_read_is_told_to_whoever_asks(worker, configure):
    configure(PAYLOADS=ENCRYPTED)
    handle = durable.start_workflow(workflows.echo, WORD)
    assert handle.result(timeout=DEADLINE) == WORD
    configure(PAYLOADS=PLAIN)
    with pytest.raises(PayloadUnreadable, match=r"The result of flows.echo .* no codec 'fernet' is configured"):
        handle.result(timeout=DEADLINE)
    with pytest.raises(PayloadUnreadable):
        handle.status()


def test_an_activity_whose_arguments_cannot_be_read_waits_for_the_key(make_worker, configure, monkeypatch):
    monkeypatch.setattr(attempts, "UNREADABLE_PAUSE", attempts.UNREADABLE_PAUSE / 300)
    configure(PAYLOADS=ENCRYPTED)
    make_worker()
    handle = durable.start_workflow(workflows.call_elsewhere, "flows.repeat", [WORD])
    wait_for(lambda: ActivityTask.objects.filter(queue="elsewhere", worker=None), "the task")
    configure(PAYLOADS=PLAIN)
    make_worker(queues=("elsewhere",))
    wait_for(lambda: ActivityTask.objects.filter(attempt__gte=8), "more tries than the policy allows")
    assert not handle.status().is_closed
    configure(PAYLOADS=ENCRYPTED)
    assert handle.result(timeout=DEADLINE) == WORD
    assert_invariants(handle)


# Offloading


def objects(storage) -> list[str]:
    """The names of all objects, folders walked through."""
    found, waiting = [], [""]
    while waiting:
        folder = waiting.pop()
        folders, files = storage.listdir(folder)
        waiting += [f"{folder}/{name}".lstrip("/") for name in folders]
        found += [f"{folder}/{name}" for name in files]
    return found


def test_large_values_are_in_the_storage_and_small_ones_in_the_database(worker, configure, storage):
    configure(PAYLOADS={"CODECS": [OFFLOADED]}, INSTANCE_CACHE_SIZE=0)
    handle = durable.start_workflow(workflows.call, "flows.repeat", [LONG])
    assert handle.result(timeout=DEADLINE) == LONG
    assert formats(handle) == {"json+storage"}
    assert "sesame" not in stored_text()
    names = objects(storage)
    assert all(name.startswith("durable/20") for name in names)
    small = durable.start_workflow(workflows.echo, "small")
    assert small.result(timeout=DEADLINE) == "small"
    assert objects(storage) == names
    assert formats(small) == {"json"}


def test_a_run_whose_object_is_missing_is_parked_until_it_is_back(worker, configure, storage):
    configure(PAYLOADS={"CODECS": [OFFLOADED]}, INSTANCE_CACHE_SIZE=0)
    handle = durable.start_workflow(workflows.collect_signals, 2)
    handle.signal(workflows.approved(LONG))
    wait_for(lambda: len(handle.history()) >= 2, "the first signal")
    wait_for(lambda: Dispatch.objects.filter(owner=None, hold=None), "the run to wait")
    kept = {}
    for name in objects(storage):
        with storage.open(name) as file:
            kept[name] = file.read()
        storage.delete(name)
    handle.signal(workflows.approved("short"))
    status = wait_for(lambda: (now := handle.status()).status == "blocked" and now, "the run to be parked")
    assert "is missing in storage 'payloads'. Restore it there." in status.blocked["message"]
    for name, content in kept.items():
        with storage.open(name, "wb") as file:
            file.write(content)
    make_due()
    assert handle.result(timeout=DEADLINE) == [LONG, "short"]


def test_an_object_that_was_changed_is_found_out(worker, configure, storage):
    configure(PAYLOADS={"CODECS": [OFFLOADED]})
    handle = durable.start_workflow(workflows.echo, LONG)
    assert handle.result(timeout=DEADLINE) == LONG
    for name in objects(storage):
        with storage.open(name, "wb") as file:
            file.write(b'"another"')
    with pytest.raises(PayloadUnreadable, match="was changed"):
        handle.result(timeout=DEADLINE)


def test_while_the_storage_takes_nothing_values_go_to_the_database(worker, configure, storage, monkeypatch, caplog):
    def broken(*_: Any) -> str:
        raise OSError("no such bucket")

    monkeypatch.setattr(type(storage), "_save", broken)
    configure(PAYLOADS={"CODECS": [OFFLOADED]})
    handle = durable.start_workflow(workflows.echo, LONG)
    assert handle.result(timeout=DEADLINE) == LONG
    assert formats(handle) == {"json"}
    assert "took no payload" in caplog.text
