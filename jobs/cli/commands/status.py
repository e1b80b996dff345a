"""`status`: how batches stand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import typer

from jobs import terminal
from jobs.cli import options
from jobs.cli.answers import run_operation
from jobs.cli.selection_options import BatchOptions
from jobs.config import Config
from jobs.errors import NothingEnqueued
from jobs.operations import report
from jobs.redis_client.server import server_name
from jobs.terminal import print_lines
from jobs.wire import Status

if TYPE_CHECKING:
    from jobs.operations.operations import Operations


@options.takes(BatchOptions)
def status(chosen: BatchOptions, batch: options.AnyBatch = None, *, as_json: options.AsJson = False) -> None:
    """Show the state of a batch, or of all batches, newest first."""
    only = chosen.filter()
    if batch and (only or chosen.all):
        raise typer.BadParameter("it lists batches: leave out BATCH, or the options", param_hint="BATCH")
    every, warnings = _read(batch)
    if chosen.all:
        every, warnings = _with_forgotten(every, warnings)
    found = only.apply(every) if only else every
    if as_json:
        typer.echo(terminal.as_json(found[0] if batch else found))
    else:
        notes = [report.NO_SUCH_BATCH] if every and not found else [*report.notes(found)]
        if batch and report.has_ended(found[0]):
            notes.append(report.end_note(found[0]))
        elif batch and not notes:
            notes.append(f"`python -m jobs watch {batch}` follows it")
        _show(found, [*notes, *warnings], as_list=batch is None)


def _read(batch: str | None) -> tuple[list[Status], list[str]]:
    """The status of a batch, or of all that Redis knows, and what else a person should know."""

    async def read(operations: Operations) -> tuple[list[Status], list[str]]:
        if batch:
            return [await operations.status(batch)], []
        found, warnings = await operations.statuses(), await operations.schedule_warnings()
        return found, warnings if found else [f"Asked: {server_name(operations.config)}.", *warnings]

    try:
        return run_operation(read)
    except NothingEnqueued as error:
        if batch:
            raise
        return [], [str(error)]


def _with_forgotten(known: list[Status], warnings: list[str]) -> tuple[list[Status], list[str]]:
    from jobs.operations.forgotten import forgotten_batches, forgotten_notes

    forgotten, problems = forgotten_batches(Config.load(), {status.batch for status in known})
    every = sorted([*known, *forgotten], key=lambda status: datetime.fromisoformat(status.created_at), reverse=True)
    return every, [*forgotten_notes(forgotten), *problems, *warnings]


def _show(found: Sequence[Status], below: Sequence[str], *, as_list: bool) -> None:
    if not found:
        print_lines(below)
        return
    from jobs.cli import tables
    from jobs.printer import Printer

    table = tables.batches_table(found, time.time()) if as_list else tables.batch_table(found[0], time.time())
    Printer().show(table, below)
