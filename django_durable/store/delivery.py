"""Outcomes of task rows whose runs somebody else owns: sent as messages, in the transaction that deletes the row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django_durable.history import messages
from django_durable.payloads import payload
from django_durable.store import dispatch, inbox, outcomes, tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The end of one attempt: a final ``outcome``, or another attempt after ``delay``.

    ``settles``: the outcome decides against an atomic activity, unless that has succeeded after all.
    """

    held: tasks.Held
    outcome: messages.ActivityResult | None = None
    settles: bool = False
    delay: timedelta = timedelta(0)
    failure: str = ""
    later: bool = False  # the outcome will come by token: no worker executes it any more
    details: str | None = None  # of the attempt's last heartbeat, for the next attempt


def deliver(reports: Sequence[Report]) -> tuple[set[tasks.Held], set[UUID]]:
    """Write reports in the caller's transaction: those to be tried again because a row is busy, and chains to wake.

    Reports on tasks that are not ours any more, and on chains that have ended, are dropped.
    """
    if not reports:
        return set(), set()
    had = tasks.locked([report.held for report in reports])
    missing = {report.held for report in reports} - had
    busy = tasks.ours(missing) if missing else set()
    for report in reports:
        if report.later and report.held in had:
            tasks.leave_outside(report.held)
        elif report.outcome is None and report.held in had:
            tasks.retry(report.held, delay=report.delay, failure=report.failure, details=report.details)
    ready, blocked = _settled([report for report in reports if report.outcome is not None and report.held in had])
    busy |= blocked
    sent = inbox.deliver([(report.held.chain_id, report.outcome) for report in ready if report.outcome])
    done = [report.held for report, fate in zip(ready, sent, strict=True) if fate is not None]
    busy |= {report.held for report, fate in zip(ready, sent, strict=True) if fate is None}
    tasks.finish(done)
    return busy, {held.chain_id for held in done}


def _settled(reports: list[Report]) -> tuple[list[Report], set[tasks.Held]]:
    """Decide against atomic activities that are given up; what has succeeded meanwhile is reported as that."""
    deciding = [report for report in reports if report.settles]
    if not deciding:
        return reports, set()
    chains = {report.held.chain_id for report in deciding}
    had = dispatch.locked_for_end(chains)
    there = dispatch.existing(chains - had.keys()) if len(had) < len(chains) else set()
    busy = {report.held for report in deciding if report.held.chain_id in there}
    places = [(one.held.chain_id, one.held.key) for one in deciding if one.held.chain_id in had]
    won = {place: outcome for place, outcome in outcomes.read(places).items() if outcome.result is not None}
    outcomes.settle([place for place in places if place not in won])
    return [_corrected(report, won) for report in reports if report.held not in busy], busy


def _corrected(report: Report, won: dict[tuple[UUID, str], outcomes.Outcome]) -> Report:
    outcome = won.get((report.held.chain_id, report.held.key))
    if outcome is None or outcome.result is None:
        return report
    success = messages.ActivityResult(
        key=report.held.key, result=payload.load(outcome.result), attempts=outcome.attempt
    )
    return Report(held=report.held, outcome=success)
