"""What a run is about: a row of any model of the project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django_durable.exceptions import DefinitionError

TYPE_LIMIT = 200  # characters, what the tables hold
ID_LIMIT = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A row by the label of its model, ``shop.order``, and its primary key as text."""

    type: str
    id: str

    @property
    def key(self) -> str:
        """Both as one text. No label contains the separator."""
        return f"{self.type}:{self.id}"


def subject_of(instance: Any, *, owner: str) -> Subject:
    """The subject that a model instance stands for. Raises ``DefinitionError`` for one that is not saved."""
    if isinstance(instance, Subject):
        return instance
    meta, state = getattr(instance, "_meta", None), getattr(instance, "_state", None)
    if meta is None or state is None:
        raise DefinitionError(f"{owner}: the subject must be an instance of a model, not {instance!r}.")
    if instance.pk is None or state.adding:
        raise DefinitionError(
            f"{owner}: the subject, a {meta.object_name}, is not saved yet, so that nothing could point to it. "
            f"Save it first; in one transaction.atomic() with the start, both are kept or neither."
        )
    subject = Subject(type=meta.concrete_model._meta.label_lower, id=str(instance.pk))
    if len(subject.type) > TYPE_LIMIT or len(subject.id) > ID_LIMIT:
        raise DefinitionError(f"{owner}: the primary key of the subject is too long: {subject.id[:60]!r}…")
    return subject
