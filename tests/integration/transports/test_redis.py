"""A Redis that fails in every way that it can: workflows, and those who start them, do not notice."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from typing import Any

import pytest
from django_redis import get_redis_connection

from django_durable import durable, transports
from tests.flows import workflows
from tests.flows.models import Entry
from tests.integration.transports import ways
from tests.integration.transports.ears import listening, wait_until_deaf, wait_until_hears
from tests.integration.transports.servers import SentinelServer
from tests.integration.worker.invariants import assert_all_invariants
from tests.integration.worker.processes import BASE_DIR
from tests.integration.worker.running import DEADLINE, wait_for

NEVER = 3_600.0

pytestmark = pytest.mark.parametrize("way", [pytest.param(ways.Redis, id="redis")], indirect=True)


def effects(count):
    return [durable.start_workflow(workflows.effects, f"run{number}", 2) for number in range(count)]


def finish(handles):
    for handle in handles:
        handle.result(timeout=DEADLINE)
    assert Entry.objects.count() == 2 * len(handles)
    assert_all_invariants(handles)


def warnings(caplog):
    return [one for one in caplog.records if one.name == "django_durable.transports" and one.levelno >= logging.WARNING]


def in_a_process(script, redis):
    """Run a script in a process of its own, with the same transport."""
    preamble = "import os, django; django.setup(); from django_durable import transports\n"
    chosen = {"redis": {"BACKEND": "redis", "OPTIONS": {"PREFIX": "tests"}}}
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DURABLE_TEST_REDIS_URL": redis.url,
        "DURABLE_TEST_SETTINGS": json.dumps({"TRANSPORTS": chosen}),
    }
    subprocess.run([sys.executable, "-c", preamble + script], cwd=BASE_DIR, env=environment, check=True)


def test_nothing_is_kept_in_it(way, redis, make_worker):
    wait_until_hears(make_worker())
    finish(effects(5))
    assert redis.keys() == 0


def test_a_flush_takes_nothing_away(way, redis, make_worker, configure):
    configure(POLL_SECONDS=NEVER)
    wait_until_hears(make_worker())
    redis.flush()
    finish(effects(3))


def test_who_has_listened_before_a_restart_listens_after_it(way, redis, make_worker, configure):
    configure(POLL_SECONDS=NEVER)
    worker = make_worker()
    wait_until_hears(worker)
    redis.kill()
    wait_until_deaf(worker)
    redis.start()
    wait_until_hears(worker)
    finish(effects(3))


def test_what_was_started_while_it_was_away_is_found_when_it_is_back(way, redis, make_worker, configure):
    """Whoever begins to hear looks at once: hints may have been missed."""
    configure(POLL_SECONDS=NEVER)
    worker = make_worker()
    wait_until_hears(worker)
    redis.kill()
    wait_until_deaf(worker)
    handles = effects(3)
    redis.start()
    finish(handles)


def test_without_it_workers_poll(way, redis, make_worker, configure):
    configure(POLL_SECONDS=None)
    redis.kill()
    worker = make_worker()
    finish(effects(3))
    assert not worker._listeners[0].hears


def test_one_that_stands_still_holds_nobody_up(way, redis, make_worker, configure):
    """It is still standing still when all is done: nobody has waited for its answer."""
    configure(POLL_SECONDS=None)
    early = make_worker()
    wait_until_hears(early)
    redis.stop()
    handles = effects(5)
    late = make_worker()
    waiting = durable.start_workflow(workflows.approval, 3_600.0)
    waiting.signal(workflows.approved("stalled"))
    finish(handles)
    assert waiting.result(timeout=DEADLINE) == "stalled"
    wait_until_deaf(early)
    assert not late._listeners[0].hears


def test_one_that_goes_on_is_heard_again(way, redis, make_worker, configure):
    configure(POLL_SECONDS=NEVER)
    worker = make_worker()
    wait_until_hears(worker)
    redis.stop()
    wait_until_deaf(worker)
    redis.go_on()
    wait_until_hears(worker)
    finish(effects(3))


def test_its_loss_is_told_once_by_each_side(way, redis, caplog):
    caplog.set_level(logging.INFO, "django_durable.transports")
    with listening("default"):
        redis.kill()
        wait_for(lambda: len(warnings(caplog)) >= 1, "the listener's warning")
        for _ in range(20):
            transports.hint_work("default")
        wait_for(lambda: len(warnings(caplog)) >= 2, "the sender's warning")
        transports.hint_message(1)
        redis.start()
        wait_for(lambda: "sent again" in caplog.text and "heard again" in caplog.text, "it to be back")
    assert len(warnings(caplog)) == 2


def test_a_hint_that_could_not_be_sent_is_sent_when_it_is_back(way, redis):
    redis.kill()
    transports.hint_work("default")
    transport: Any = transports.all()[0]
    wait_for(lambda: transport._sender._is_failing, "the first try")
    redis.start()
    with listening("default") as ear:
        wait_for(transport._sender._has_sent_all, "the next try")
        transports.hint_work("default")
        ear.wait()


def test_a_process_that_ends_at_once_sends_its_hints_first(way, redis):
    with listening("default") as ear:
        in_a_process("transports.hint_work('default')", redis)
        ear.wait()


def test_a_process_that_was_forked_sends_its_own(way, redis):
    script = """
transports.hint_work("parent")
[transport] = transports.all()
assert transport._sender.wait_until_sent(9)
if os.fork() == 0:
    transports.hint_work("child")
    os._exit(not transport._sender.wait_until_sent(9))
assert os.wait()[1] == 0
"""
    with listening("child") as ear:
        in_a_process(script, redis)
        ear.wait()


def test_who_asks_for_it_waits_until_its_hint_has_left(way, redis, configure):
    """For processes that are frozen once they have answered."""
    options = {**ways.Redis.transports["hints"]["OPTIONS"], "WAIT_SECONDS": DEADLINE}
    configure(TRANSPORTS={"hints": {"BACKEND": "redis", "OPTIONS": options}})
    with listening("default") as ear:
        transports.hint_work("default")
        transport: Any = transports.all()[0]
        assert transport._sender._has_sent_all()
        ear.wait()


def test_the_cache_keeps_its_connections_and_its_patience(way, redis):
    """Hints have short time limits of their own, on connections of their own."""
    shared = get_redis_connection("hints").connection_pool
    transport: Any = transports.all()[0]
    own = transport._client.connection_pool
    transports.hint_work("default")
    assert transport._sender.wait_until_sent(DEADLINE)
    assert own.connection_kwargs["socket_timeout"] == 1.0
    assert "socket_timeout" not in shared.connection_kwargs
    assert (own.connection_kwargs["host"], own.connection_kwargs["port"]) == ("127.0.0.1", redis.port)
    assert shared._created_connections == 0


def test_a_server_that_sentinels_know_is_found(way, redis, settings, configure, tmp_path):
    sentinel = SentinelServer(redis, tmp_path)
    options = {
        "CLIENT_CLASS": "django_redis.client.SentinelClient",
        "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
        "SENTINELS": [("127.0.0.1", sentinel.port)],
    }
    entry = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://shop/0", "OPTIONS": options}
    settings.CACHES = {**settings.CACHES, "watched": entry}
    configure(TRANSPORTS={"hints": {"BACKEND": "redis", "OPTIONS": {"CACHE": "watched"}}})
    try:
        with listening("default") as ear:
            transports.hint_work("default")
            ear.wait()
    finally:
        sentinel.kill()


def test_settings_that_change_end_what_they_have_begun(way, configure):
    transports.hint_work("default")
    transport: Any = transports.all()[0]
    configure(TRANSPORTS=("polling",))
    transports.hint_work("default")
    assert transport._sender._closed
    assert not transport._sender._thread.is_alive()
