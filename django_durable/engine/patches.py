"""Changes of a workflow's code under open runs: ``ctx.patched`` tells those that had passed the place already."""

from __future__ import annotations

from collections.abc import Iterable

from django_durable.definitions import options as checks
from django_durable.engine.commands import MarkPatch
from django_durable.engine.recorder import Recorder
from django_durable.history import events
from django_durable.history.events import Recorded


def marked(history: Iterable[Recorded]) -> frozenset[str]:
    """The patches whose markers a history holds."""
    return frozenset(item.event.id for item in history if isinstance(item.event, events.PatchMarked))


class Patches:
    """The answer to each id is given once and kept: a run never changes the branch, in a loop for example."""

    __slots__ = ("_answers", "_marked", "_recorder")

    def __init__(self, recorder: Recorder, marked: frozenset[str] | None) -> None:
        """``marked``: the patches whose markers stand in the history; None: nothing is recorded, all are taken."""
        self._recorder = recorder
        self._marked = marked
        self._answers: dict[str, bool] = {}

    def patched(self, id: str) -> bool:
        answer = self._answers.get(id)
        if answer is None:
            checks.check_text(id, what="The id of a patch")
            self._recorder.check()
            answer = self._answers[id] = self._ask(id)
        return answer

    def _ask(self, id: str) -> bool:
        if self._marked is None or id in self._marked:
            return True
        if self._recorder.replaying:
            return False
        self._recorder.issue(MarkPatch(id=id))
        return True
