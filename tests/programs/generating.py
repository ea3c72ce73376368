"""Programs as hypothesis strategies: one that fails is made as small as it can be."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.programs.interpreter import Node

MOST_LEAVES = 8
SECONDS = st.sampled_from([0, 1, 2, 5])
DELAYS = st.sampled_from([0, 1, 4, 30])  # the last comes when nobody waits any more
CANCELLATIONS = st.sampled_from(["try", "wait", "abandon"])
CLOSINGS = st.sampled_from(["terminate", "cancel", "abandon"])
TRIES = st.integers(1, 2)


class Program(NamedTuple):
    body: Node
    tries: int
    ties: bool


def _node(kind: str, *arguments: Any) -> Any:
    return st.tuples(st.just(kind), *arguments).map(list)


LEAVES = st.one_of(
    *(_node(kind) for kind in ("say", "stumble", "refuse", "effect", "draw", "fail")),
    _node("slow", SECONDS, CANCELLATIONS),
    _node("poll", SECONDS),
    _node("map", st.integers(0, 4)),
    _node("sleep", SECONDS),
    _node("signal", st.none() | DELAYS),
    _node("update", DELAYS, st.booleans()),
    _node("callback", st.none() | DELAYS, st.booleans()),
)


def _bodies(nodes: Any) -> Any:
    """What only the body of a run can do, beside everything else."""
    return st.one_of(nodes, _node("again", nodes, nodes), _node("flaky", nodes), _node("ended", nodes, SECONDS))


def _branches(nodes: Any) -> Any:
    several = st.lists(nodes, min_size=1, max_size=3)
    return st.one_of(
        *(_node(kind, several) for kind in ("sequence", "gather", "group", "race")),
        *(_node(kind, nodes) for kind in ("compensated", "until", "told")),
        *(_node(kind, nodes, SECONDS) for kind in ("cancelled", "limit")),
        _node("guarded", nodes, nodes),
        _node("child", _bodies(nodes), TRIES, CANCELLATIONS, CLOSINGS),
        _node("dismissed", _bodies(nodes), SECONDS),
    )


NODES = st.recursive(LEAVES, _branches, max_leaves=MOST_LEAVES)


def programs(*, ties: Any) -> Any:
    """``ties``: whether several things may come to their end at the same moment."""
    return st.builds(Program, body=_bodies(NODES), tries=TRIES, ties=ties)
