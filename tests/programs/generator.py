"""Programs from a seed: the same seed gives the same program on every machine.

Nothing is cancelled at a moment at which something else happens: an activity that is under way then may or may not
answer before its run has ended, as chance will have it.
"""

from __future__ import annotations

from random import Random

from tests.programs.interpreter import Node

DEPTH = 4


def program(seed: int) -> Node:
    random = Random(seed)
    body = _node(random, DEPTH)
    return ["again", body, _node(random, DEPTH - 1)] if random.random() < 0.15 else body


def _node(random: Random, depth: int) -> Node:
    if depth == 0 or random.random() < 0.1:
        return _leaf(random)
    kind = random.choice(["sequence", "gather", "map", "child", "cancelled", "guarded", "compensated", "until"])
    match kind:
        case "sequence" | "gather":
            return [kind, [_node(random, depth - 1) for _ in range(random.randint(1, 3))]]
        case "map":
            return [kind, [_word(random) for _ in range(random.randint(0, 4))]]
        case "cancelled":
            return [kind, _node(random, depth - 1), random.randrange(1, 4_000) / 1_000]
        case "guarded":
            return [kind, _node(random, depth - 1), _leaf(random)]
        case "compensated":
            return [kind, _word(random), _node(random, depth - 1)]
        case _:
            return [kind, _node(random, depth - 1)]


def _leaf(random: Random) -> Node:
    kind = random.choice(["say", "say", "stumble", "refuse", "sleep", "signal", "effect"])
    if kind == "sleep":
        return [kind, random.choice([0, 1, 2, 10])]
    return [kind, "go" if kind == "signal" else _word(random)]


def _word(random: Random) -> str:
    return random.choice("abcdef")
