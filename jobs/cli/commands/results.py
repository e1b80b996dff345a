"""`results`: what a batch has got so far."""

from __future__ import annotations

import shutil
import sys
from typing import Annotated

import typer

from jobs.batch_folder.results import read_results, write_results
from jobs.cli import options, tables
from jobs.config import Config
from jobs.operations import report
from jobs.operations.operations import known_folder
from jobs.printer import Printer


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
        Printer().show(tables.failures_table(read_results(folder, failed=True)))
    else:
        note = None if totals.missing else report.failure_note(batch, totals.failed + totals.canceled)
        Printer().show(tables.totals_table(totals), [*tables.path_lines(folder, totals), *filter(None, [note])])
    raise typer.Exit(1 if not totals.missing and totals.failed + totals.canceled else 0)
