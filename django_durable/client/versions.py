"""Which code open runs need: the versions that they are pinned to, and the old branches of patches."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Literal

import msgspec
from django.db.models import Count, QuerySet

from django_durable.definitions import patch_calls
from django_durable.definitions.registry import registry
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.exceptions import UnknownDefinition
from django_durable.history import events
from django_durable.models import HistoryEvent, WorkflowRun
from django_durable.store import database, dispatch, runs

Code = Literal["same", "changed", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionInUse:
    """Open runs of one version that were started by the same code.

    ``code``: what this process has for them, ``"same"`` as what started them, ``"changed"`` since, or ``"missing"``.
    """

    name: str
    version: str
    fingerprint: str
    runs: int
    code: Code


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchInUse:
    """A patch that the code of this process or the history of an open run knows.

    ``unmarked`` counts the open runs that have begun and do not have its marker: they may need the old branch.
    """

    name: str
    version: str
    id: str
    marked: int
    unmarked: int
    in_code: bool

    @property
    def old_branch_needed(self) -> bool:
        return self.unmarked > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    versions: tuple[VersionInUse, ...]
    patches: tuple[PatchInUse, ...]


def versions_in_use() -> Versions:
    """What open runs need of the code. Reads the histories of all open runs: not for every request."""
    return Versions(versions=tuple(_versions()), patches=tuple(_patches()))


def _versions() -> list[VersionInUse]:
    found = _open().values_list("name", "version", "fingerprint").annotate(count=Count("pk"))
    return [
        VersionInUse(
            name=name, version=version, fingerprint=fingerprint, runs=count, code=_code(name, version, fingerprint)
        )
        for name, version, fingerprint, count in found.order_by("name", "version", "fingerprint")
    ]


def _code(name: str, version: str, fingerprint: str) -> Code:
    try:
        definition = registry.workflow(name, version)
    except UnknownDefinition:
        return "missing"
    return "same" if definition.fingerprint == fingerprint else "changed"


def _patches() -> list[PatchInUse]:
    begun = Counter(_begun().values_list("name", "version"))
    marked: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for definition, id in _markers():
        marked[definition][id] += 1
    in_code = {(one.name, one.version): _patches_in(one) for one in registry.workflows()}
    return [
        PatchInUse(
            name=place[0],
            version=place[1],
            id=id,
            marked=marked[place][id],
            unmarked=begun[place] - marked[place][id],
            in_code=id in in_code.get(place, ()),
        )
        for place in sorted({*marked, *in_code})
        for id in sorted({*marked[place], *in_code.get(place, ())})
    ]


def _markers() -> list[tuple[tuple[str, str], str]]:
    """Workflow and patch of each marker in the history of an open run."""
    definitions = {run: (name, version) for run, name, version in _begun().values_list("pk", "name", "version")}
    found = HistoryEvent.objects.using(database.alias()).filter(
        run_id__in=_begun().values("pk"), type=events.PatchMarked.__name__
    )
    return [
        (definitions[run], msgspec.json.decode(data, type=events.PatchMarked).id)
        for run, data in found.values_list("run_id", "data").distinct()
        if run in definitions
    ]


def _patches_in(definition: WorkflowDefinition[..., object]) -> set[str]:
    others = {one.function.__name__ for one in registry.workflows() if one.function is not definition.function}
    return patch_calls.patches_in(definition, others=others)


def _open() -> QuerySet[WorkflowRun]:
    return runs.rows().open().order_by()


def _begun() -> QuerySet[WorkflowRun]:
    """Open runs of which some code has run: the others have everything before them."""
    return _open().filter(chain_id__in=dispatch.rows().filter(epoch__gt=0).values("chain_id"))
