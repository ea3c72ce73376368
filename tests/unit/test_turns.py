"""Turns: every key gets its weight in each round, whatever the others have waiting."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from django_durable.store import turns

KEYS = "abcd"


@given(
    waiting=st.dictionaries(st.sampled_from(KEYS), st.integers(1, 30), min_size=1),
    weights=st.dictionaries(st.sampled_from(KEYS), st.integers(1, 5)),
    room=st.dictionaries(st.sampled_from(KEYS), st.integers(0, 10)),
    limits=st.lists(st.integers(1, 12), min_size=1, max_size=20),
)
def test_however_a_round_is_cut_into_claims_the_order_is_the_same(
    waiting: dict[str, int], weights: dict[str, int], room: dict[str, int], limits: list[int]
) -> None:
    """What many small claims deal, one after the other, is what a single one would have dealt."""
    left = {key: [f"{key}{number}" for number in range(count)] for key, count in sorted(waiting.items())}
    may = dict(room)
    whole = dealt_by(left, sum(limits), weights, may, "", 0)

    latest, turns_left, parts = "", 0, set()
    for limit in limits:
        part = dealt_by(left, limit, weights, may, latest, turns_left)
        for key, ones in part.taken.items():
            left[key] = left[key][len(ones) :]
            may[key] = may.get(key, 99) - len(ones)
            parts |= set(ones)
        if part.taken:
            latest, turns_left = part.latest_key, part.turns_left

    assert parts == {one for ones in whole.taken.values() for one in ones}


def dealt_by(left, limit, weights, may, latest, turns_left):
    """One claim: the keys in their order after the latest, which comes first if it has turns left."""
    keys = sorted(left, key=lambda key: (key <= latest, key))
    if turns_left and latest in keys:
        keys = [latest, *(key for key in keys if key != latest)]
    return turns.deal(
        [(key, left[key]) for key in keys],
        weight=lambda key: weights.get(key, 1),
        room=lambda key: may.get(key, 99),
        limit=limit,
        turns_left=turns_left,
    )
