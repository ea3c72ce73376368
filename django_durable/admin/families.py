"""The runs that belong to a run: its parent, its children, and the others of its chain."""

from __future__ import annotations

from dataclasses import dataclass

from django_durable.models import WorkflowRun
from django_durable.store import runs

CHILDREN = 20  # that a page shows
CHAIN = 20  # runs of a chain, the latest


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """``chain`` is empty if the run is alone in it; its runs are in order."""

    parent: WorkflowRun | None
    children: list[WorkflowRun]
    more_children: bool
    chain: list[WorkflowRun]


def family_of(run: WorkflowRun) -> Family:
    """Three queries at most; columns of any size are left alone."""
    light = runs.rows().only("pk", "workflow_id", "status", "created_at")
    children = list(light.filter(parent_chain_id=run.chain_id, parent_run_id=run.pk).order_by("pk")[: CHILDREN + 1])
    parent = light.filter(pk=run.parent_run_id).first() if run.parent_run_id is not None else None
    return Family(
        parent=parent,
        children=children[:CHILDREN],
        more_children=len(children) > CHILDREN,
        chain=_chain(run),
    )


def _chain(run: WorkflowRun) -> list[WorkflowRun]:
    """The latest runs of the chain."""
    same = runs.rows().only("pk", "workflow_id", "status", "created_at").filter(chain_id=run.chain_id)
    chain = list(same.order_by("-created_at", "-id")[:CHAIN])
    return chain[::-1] if len(chain) > 1 else []
