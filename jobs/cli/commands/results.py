"""`results`: what a batch has got so far."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.batch_folder.results import read_results, write_results
from jobs.cli import options, tables
from jobs.config import Config
from jobs.operations import report
from jobs.operations.operations import known_folder
from jobs.printer import Printer

if TYPE_CHECKING:
    from jobs.batch_folder.rows.totals import Totals


def results(
    batch: options.BatchName,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Only the prompts that did not succeed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results, one JSON object a line.")] = False,
) -> None:
    """Write results.jsonl and errors.jsonl as of now; sum up."""
    config = Config.load()
    folder = known_folder(batch, config)
    totals = write_results(folder, fsync=config.fsync)
    if as_json:
        with (folder.errors if failed else folder.results).open("rb") as lines:
            shutil.copyfileobj(lines, sys.stdout.buffer)
    elif failed:
        found = tables.failures_table(read_results(folder, failed=True))
        again = f"`python -m jobs retry {batch}` makes another attempt"
        Printer().show(found, [again if found.row_count else f"No prompt has failed: `python -m jobs status {batch}`"])
    else:
        Printer().show(tables.totals_table(totals), [*tables.path_lines(folder, totals), _next(batch, totals)])
    raise typer.Exit(1 if not totals.missing and totals.failed + totals.canceled else 0)


def _next(batch: str, totals: Totals) -> str:
    if totals.missing:
        return f"`python -m jobs status {batch}` says what the rest waits for"
    return report.failure_note(batch, totals.failed + totals.canceled) or f"`python -m jobs open {batch}` shows them"
