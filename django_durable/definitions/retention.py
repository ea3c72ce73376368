"""How long ended workflows are kept: durations by status, from the settings and from the declarations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django_durable.definitions.options import near
from django_durable.exceptions import DefinitionError

ENDS = ("completed", "failed", "cancelled", "terminated", "timed_out")
"""The statuses in which a chain of runs ends."""

CONTINUED = "continued_as_new"
"""The status of runs in the middle of a chain, which may go while that goes on."""

STATUSES = (*ENDS, CONTINUED)
"""What a duration can be given for."""

LEAST = timedelta(minutes=1)
"""Whoever waits for a result has seen it by then."""

Keeps = Mapping[str, timedelta | None]
"""Status to how long what has ended so is kept. None: for ever. One that is missing: nobody has said."""

Retention = timedelta | Keeps | None
"""As it is declared: one duration for all statuses, or one for each."""


def read(declared: Any, *, owner: str) -> dict[str, timedelta | None]:
    """Durations by status. Raises ``DefinitionError`` for what could not work."""
    if declared is None:
        return {}
    if not isinstance(declared, Mapping):
        _check_duration(declared, owner)
        return dict.fromkeys(STATUSES, declared)
    for status, keep in declared.items():
        if status not in STATUSES:
            raise DefinitionError(
                f"{owner}: there is no end {status!r}.{near(str(status), STATUSES)} There are: {', '.join(STATUSES)}."
            )
        if keep is not None:
            _check_duration(keep, f"{owner}[{status!r}]")
    return dict(declared)


def _check_duration(value: Any, owner: str) -> None:
    if not isinstance(value, timedelta):
        raise DefinitionError(f"{owner} must be a timedelta, not {value!r}; such as timedelta(days=30).")
    if value < LEAST:
        raise DefinitionError(f"{owner} must be at least a minute, so that whoever waits has seen the end: {value!r}.")


WORKFLOWS = "WORKFLOWS"


class Policy:
    """``DURABLE["RETENTION"]``: what holds for all workflows, and for some by their name."""

    def __init__(self, declared: Any) -> None:
        """Raises ``DefinitionError`` that names what is wrong in it."""
        owner = 'DURABLE["RETENTION"]'
        named = declared.get(WORKFLOWS, {}) if isinstance(declared, Mapping) else {}
        if isinstance(declared, Mapping):
            declared = {key: value for key, value in declared.items() if key != WORKFLOWS}
        if not isinstance(named, Mapping):
            raise DefinitionError(f"{owner}: {WORKFLOWS} must be a dict of names, not {named!r}.")
        self._general = read(declared, owner=owner)
        self._named = {name: read(one, owner=f"{owner}[{WORKFLOWS!r}][{name!r}]") for name, one in named.items()}

    @property
    def names(self) -> frozenset[str]:
        """The workflows that it names."""
        return frozenset(self._named)

    def of(self, name: str, own: Keeps) -> dict[str, timedelta | None]:
        """What holds for a workflow whose declaration says ``own``: the settings may overrule it by its name."""
        return {**self._general, **own, **self._named.get(name, {})}
