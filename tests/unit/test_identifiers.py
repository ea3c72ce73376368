"""Ids of runs."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import RFC_4122, UUID

from django_durable.store import identifiers

AHEAD = UUID(int=int(datetime(2999, 1, 1, tzinfo=UTC).timestamp() * 1000) << 80 | 0x7FFF << 64 | 0b10 << 62 | 3)


def test_ids_of_one_process_are_in_order():
    made = [identifiers.uuid7() for _ in range(10_000)]
    assert made == sorted(made)
    assert {one.version for one in made} == {7}
    assert len(set(made)) == len(made)


def test_a_run_that_follows_one_of_a_process_with_a_later_clock_comes_after_it():
    second = identifiers.uuid7(after=AHEAD)
    third = identifiers.uuid7(after=second)
    assert AHEAD < second < third
    assert {second.version, third.version} == {7}
    assert identifiers.uuid7() < AHEAD


def test_a_derived_id_is_the_same_every_time_and_less_than_what_follows() -> None:
    one = identifiers.derived("who", "key")
    assert one == identifiers.derived("who", "key")
    assert len({one, identifiers.derived("whok", "ey"), identifiers.derived("who", "other")}) == 3
    assert (one.version, one.variant) == (7, RFC_4122)
    assert one < identifiers.uuid7(after=one)
