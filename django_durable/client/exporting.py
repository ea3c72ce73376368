"""Runs into a file of their own, as ``durable_export`` writes them, before they are deleted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import msgspec

from django_durable.history import codec, transcript
from django_durable.store import clock, identifiers, runs, transcripts

BATCH = 200


def write(directory: Path, run_ids: Sequence[UUID]) -> Path:
    """Write these runs with their events into a new file in ``directory``; it is on the disk when this returns.

    Values are as they are stored, so what is encrypted stays so; but those that a codec keeps elsewhere are put into
    the file, because they are deleted there. Raises ``OSError``, and ``UnreadableEvent`` for a value that is to be put
    in and cannot be read.
    """
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / f"durable-{clock.read():%Y%m%dT%H%M%SZ}-{identifiers.uuid7().hex}.jsonl"
    unfinished = target.with_suffix(".part")
    try:
        with open(unfinished, "x", encoding="utf-8") as file:
            for start in range(0, len(run_ids), BATCH):
                found = runs.rows().filter(pk__in=run_ids[start : start + BATCH]).order_by("pk")
                for run in found.defer("input", "result", "failure"):
                    file.write(transcript.write(transcripts.line_of(run)) + "\n")
                    for event in transcripts.events_of(run.pk):
                        file.write(transcript.write(_embedded(event)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, target)
        _sync(directory)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return target


def _embedded(event: transcript.EventLine) -> transcript.EventLine:
    data, schema = codec.embedded(event.type, event.data, event.schema)
    return event if data is event.data else msgspec.structs.replace(event, data=data, schema=schema)


def _sync(directory: Path) -> None:
    """A new name is on the disk only once its directory is; not every system lets one ask for that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
