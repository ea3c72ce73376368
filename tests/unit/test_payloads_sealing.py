"""Stored payloads say themselves how they are read: whatever is written now, what was written before stays readable."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cryptography import fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from django_durable.exceptions import DefinitionError, PayloadError, PayloadUnreadable
from django_durable.history import codec as history
from django_durable.history import events, messages, vocabulary
from django_durable.payloads import codec, limits, packing, payload, sealing
from django_durable.payloads.codecs.base import Codec
from django_durable.payloads.codecs.compression import Zlib
from django_durable.payloads.codecs.encryption import Fernet
from django_durable.payloads.payload import Payload, json_payload

KEY, OTHER = fernet.Fernet.generate_key().decode(), fernet.Fernet.generate_key().decode()
ZLIB = "django_durable.payloads.codecs.compression.Zlib"
FERNET = "django_durable.payloads.codecs.encryption.Fernet"
SECRET = "open sesame"

Use = Callable[[sealing.Sealing], None]


class Reversed(Codec):
    """A codec as a project may have one."""

    name = "reversed"

    def encode(self, data: bytes) -> bytes:
        return data[::-1]

    def decode(self, data: bytes, *, limit: int) -> bytes:
        return data[::-1]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Use]:
    """Seal as this says from now on."""
    before = sealing.state.read
    yield lambda one: sealing.read_from(lambda: one)
    sealing.read_from(before)


def encoded(value: Any) -> Payload:
    return codec.encode(value, what="It")


def encrypted(*keys: str, format: str = "json") -> sealing.Sealing:
    return sealing.Sealing(format=format, codecs=[Zlib(from_bytes=0), Fernet(keys=list(keys))])


SEALINGS = [
    sealing.Sealing(),
    sealing.Sealing(format="msgpack"),
    sealing.Sealing(format="protobuf"),
    sealing.Sealing(codecs=[Zlib(from_bytes=0)]),
    encrypted(KEY),
    encrypted(KEY, format="msgpack"),
    encrypted(KEY, format="protobuf"),
]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize("one", SEALINGS)
@settings(deadline=None)
@given(value=VALUES)
def test_what_is_sealed_is_opened_byte_for_byte(one: sealing.Sealing, value: Any) -> None:
    text = msgspec.json.encode(value)
    assert one.open(*one.close(text)) == text


@pytest.mark.parametrize(
    ("one", "format"),
    [
        (sealing.Sealing(), "json"),
        (sealing.Sealing(format="msgpack"), "msgpack"),
        (sealing.Sealing(format="protobuf"), "protobuf"),
        (encrypted(KEY), "json+zlib+fernet"),
        (sealing.Sealing(format="msgpack", codecs=[Fernet(keys=[KEY]), Reversed()]), "msgpack+fernet+reversed"),
    ],
)
def test_the_format_says_what_was_done_in_which_order(use: Use, one: sealing.Sealing, format: str) -> None:
    use(one)
    stored = payload.sealed(encoded([SECRET] * 20))
    assert stored.format == format
    assert payload.load(payload.dump(stored)) == stored
    assert codec.decode(stored, list[str], what="It") == [SECRET] * 20


def test_msgpack_is_msgpack_and_an_encryption_is_fernets(use: Use) -> None:
    """So that readers in other languages need nothing of this library."""
    use(sealing.Sealing(format="msgpack", codecs=[Fernet(keys=[KEY])]))
    format, data = json.loads(payload.dump(encoded({"total": 7, "of": None})))
    token = base64.urlsafe_b64encode(base64.b64decode(data))
    assert format == "msgpack+fernet"
    assert msgspec.msgpack.decode(fernet.Fernet(KEY).decrypt(token)) == {"total": 7, "of": None}


@pytest.mark.parametrize("name", ["msgpack", "protobuf"])
@pytest.mark.parametrize("text", [b"[123456789012345678901234567890]", b"[" * 500 + b"]" * 500, b'{"a":1,"a":2}'])
def test_what_another_notation_would_change_stays_json(name: str, text: bytes) -> None:
    format, data = sealing.Sealing(format=name).close(text)
    assert sealing.Sealing().open(format, data) == text
    if name == "protobuf" or not text.startswith(b"[["):
        assert (format, data) == ("json", text)


def test_whole_numbers_and_fractions_and_the_order_of_keys_survive_every_notation() -> None:
    text = b'{"z":1,"a":1.0,"m":[1e16,10000000000000000,-0.0,true,null,"\xc3\xa9"],"b":{}}'
    for name in (packing.MSGPACK, packing.PROTOBUF):
        packed = packing.of(name).pack(text)
        assert packed is not None, name
        assert packing.of(name).unpack(packed) == text


def test_two_encryptions_of_a_value_differ_and_are_the_same_to_whoever_compares(use: Use) -> None:
    use(encrypted(KEY))
    event = events.SideEffectRecorded(value=encoded(SECRET))
    first, second = history.encode(event), history.encode(event)
    assert first != second
    assert history.decode("SideEffectRecorded", first) == history.decode("SideEffectRecorded", second) == event
    assert SECRET.encode() not in first


EVENT = events.RunStarted(
    input=encoded({"order": SECRET}),
    seed=1,
    python="3.12",
    signals=(events.CarriedSignal(name="s", payload=encoded(SECRET)),),
    callbacks=(
        events.CarriedCallback(
            chain_key="c",
            name="c",
            key="k",
            token="t",
            completed=events.ActivityCompleted(activity=2, result=encoded(SECRET)),
        ),
    ),
    headers=encoded({"actor": SECRET}),
)
MESSAGES: list[messages.Message] = [
    messages.Signal(name="s", payload=encoded(SECRET)),
    messages.Update(id="u", name="u", input=encoded(SECRET)),
    messages.ActivityResult(key="k", result=encoded(SECRET)),
    messages.ActivityResult(key="k"),
    messages.ChildResult(key="k", status="completed", result=encoded(SECRET)),
    messages.Cancel(reason="because"),
]


@pytest.mark.parametrize("then", SEALINGS)
@pytest.mark.parametrize("now", SEALINGS[-3:])
def test_events_and_messages_of_any_time_are_read_at_any_other(use: Use, then: sealing.Sealing, now: Any) -> None:
    use(then)
    event, texts = history.encode(EVENT), [messages.encode(one) for one in MESSAGES]
    use(now)
    assert history.decode("RunStarted", event) == EVENT
    assert [messages.decode(text) for text in texts] == MESSAGES


def test_every_payload_of_an_event_and_of_a_message_is_sealed(use: Use) -> None:
    use(encrypted(KEY))
    assert SECRET.encode() not in history.encode(EVENT)
    assert not [one for one in MESSAGES if SECRET in messages.encode(one)]


def test_what_is_sealed_already_is_stored_as_it_is(use: Use) -> None:
    """A result goes from a row to a message to an event: the one encryption goes with it."""
    use(encrypted(KEY))
    once = payload.load(payload.dump(encoded(SECRET)))
    assert payload.sealed(once) is once
    assert payload.load(payload.dump(once)) == once


def test_the_size_of_an_event_does_not_depend_on_how_it_is_stored(use: Use) -> None:
    """Workflow code can see it, so it must be the same in a replay under other settings."""
    sizes = set()
    for one in SEALINGS:
        use(one)
        text = history.encode(EVENT).decode()
        sizes.add(history.record(1, datetime(2030, 1, 1, tzinfo=UTC), "RunStarted", text, 1).size)
    assert sizes == {history.size(EVENT)}


# Keys


def test_the_first_key_encrypts_and_all_of_them_decrypt() -> None:
    old = Fernet(keys=[KEY]).encode(b"value")
    both = Fernet(keys=[OTHER, KEY])
    assert both.decode(old, limit=100) == b"value"
    assert Fernet(keys=[OTHER]).decode(both.encode(b"value"), limit=100) == b"value"


def test_a_lost_key_is_told_with_what_to_do(use: Use) -> None:
    use(encrypted(KEY))
    event, message, stored = history.encode(EVENT), messages.encode(MESSAGES[0]), payload.dump(encoded(SECRET))
    use(encrypted(OTHER))
    with pytest.raises(history.UnreadableEvent, match=r"The input of RunStarted .*none of the configured keys"):
        history.decode("RunStarted", event)
    assert isinstance(messages.decode(message), messages.Unreadable)
    with pytest.raises(PayloadUnreadable, match=r"It is stored in the format 'json\+fernet': none of .* Put the"):
        codec.decode(payload.load(stored), str, what="It")


def test_a_codec_that_is_not_configured_any_more_is_asked_for_by_name(use: Use) -> None:
    use(sealing.Sealing(codecs=[Reversed()]))
    stored = payload.load(payload.dump(encoded(SECRET)))
    use(sealing.Sealing())
    with pytest.raises(PayloadUnreadable, match=r"no codec 'reversed' is configured.*\"WRITE\": False"):
        payload.opened(stored, what="It")
    use(sealing.Sealing(reading=[Reversed()]))
    assert payload.opened(stored, what="It") == encoded(SECRET)
    assert payload.sealed(encoded(SECRET)).format == "json"


def test_a_format_of_a_newer_release_is_told(use: Use) -> None:
    with pytest.raises(PayloadUnreadable, match=r"'cbor\+zlib': this release does not read it\. Upgrade"):
        payload.opened(Payload("cbor+zlib", msgspec.Raw(b'"AAAA"')), what="It")


@pytest.mark.parametrize(
    "data", [b'"AAAA"', b'"%"', b"7", base64.b64encode(zlib.compress(b"x" * 99)[:-3]).join([b'"', b'"'])]
)
def test_damage_is_told(use: Use, data: bytes) -> None:
    with pytest.raises(PayloadUnreadable, match="damaged"):
        payload.opened(Payload("json+zlib", msgspec.Raw(data)), what="It")


def test_what_is_readable_now_is_offered_what_was_not_readable_before(use: Use) -> None:
    seen = set()
    for one in (sealing.Sealing(), encrypted(KEY), encrypted(OTHER), encrypted(OTHER, KEY)):
        use(one)
        seen.add(vocabulary.current())
        assert KEY not in one.readable()
    assert len(seen) == 4


# Sizes


def test_little_that_grows_to_much_is_refused(use: Use) -> None:
    bomb = zlib.compress(b"0" * (sealing.GROWN + 1), 9)
    assert len(bomb) < 20_000
    stored = Payload("json+zlib", msgspec.Raw(msgspec.json.encode(bomb)))
    with pytest.raises(PayloadUnreadable, match=r"grows to more than 16,777,216 bytes.*MAX_PAYLOAD_BYTES"):
        payload.opened(stored, what="It")


def test_the_largest_value_counts_before_it_is_compressed(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    use(encrypted(KEY))
    monkeypatch.setattr(limits, "_source", limits._Source())
    limits.read_from(lambda: limits.Limits(max_bytes=1_000, warn_bytes=500))
    with pytest.raises(PayloadError, match="at most 1,000 are stored"):
        encoded("0" * 1_001)


def test_what_compression_does_not_shrink_stays_as_it_is() -> None:
    assert Zlib(from_bytes=10).encode(b"0" * 9) is None
    assert Zlib(from_bytes=0).encode(bytes(range(256))) is None
    compressed = Zlib().encode(b"0" * 1_000)
    assert compressed is not None
    assert len(compressed) < 50


# Settings


def test_the_settings_say_it_all(use: Use) -> None:
    one = sealing.from_settings(
        {
            "FORMAT": "msgpack",
            "CODECS": [
                {"BACKEND": ZLIB, "OPTIONS": {"from_bytes": 0, "level": 9}},
                {"BACKEND": FERNET, "OPTIONS": {"keys": [KEY]}},
                {"BACKEND": f"{__name__}.Reversed", "WRITE": False},
            ],
        }
    )
    use(one)
    assert payload.sealed(encoded("0" * 100)).format == "msgpack+zlib+fernet"
    assert payload.opened(Payload("json+reversed", msgspec.Raw(b'"MQ=="')), what="It") == json_payload(b"1")


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"FORMATS": "json"}, "no key 'FORMATS'; keys are FORMAT, CODECS"),
        ({"FORMAT": "pickle"}, "FORMAT is 'pickle', but must be one of 'json', 'msgpack', 'protobuf'"),
        ({"CODECS": "zlib"}, "CODECS must be a list"),
        ({"CODECS": ["zlib"]}, r"CODECS\[0\] must be a dict"),
        ({"CODECS": [{"BACKEND": ZLIB, "LEVEL": 3}]}, r"CODECS\[0\] has no key 'LEVEL'"),
        ({"CODECS": [{"BACKEND": "zlib"}]}, "cannot be imported"),
        ({"CODECS": [{"BACKEND": "django_durable.nowhere.Zlib"}]}, "cannot be imported"),
        ({"CODECS": [{"BACKEND": "uuid.UUID"}]}, "no subclass of"),
        ({"CODECS": [{"BACKEND": ZLIB, "OPTIONS": {"level": 0}}]}, "level is 0"),
        ({"CODECS": [{"BACKEND": ZLIB, "OPTIONS": {"from_bytes": -1}}]}, "from_bytes is -1"),
        ({"CODECS": [{"BACKEND": ZLIB, "OPTIONS": {"strength": 1}}]}, "OPTIONS do not fit Zlib.*strength"),
        ({"CODECS": [{"BACKEND": FERNET}]}, "OPTIONS do not fit Fernet.*keys"),
        ({"CODECS": [{"BACKEND": FERNET, "OPTIONS": {"keys": []}}]}, "keys must be a list"),
        ({"CODECS": [{"BACKEND": FERNET, "OPTIONS": {"keys": KEY}}]}, "keys must be a list"),
        ({"CODECS": [{"BACKEND": ZLIB}, {"BACKEND": ZLIB}]}, "'zlib' twice"),
    ],
)
def test_wrong_settings_are_named(declared: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        sealing.from_settings(declared)


def test_a_wrong_key_is_not_repeated_in_the_error() -> None:
    with pytest.raises(DefinitionError) as caught:
        sealing.from_settings({"CODECS": [{"BACKEND": FERNET, "OPTIONS": {"keys": ["hunter2"]}}]})
    assert "one of keys is none" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_notation_whose_package_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError("No module named 'google'")

    monkeypatch.setattr("importlib.import_module", missing)
    packing.of.cache_clear()
    with pytest.raises(DefinitionError, match=r"FORMAT 'protobuf' needs a package .*google"):
        sealing.from_settings({"FORMAT": "protobuf"})
