"""`watch`: follows a batch to its end."""

from __future__ import annotations

import typer

from jobs.cli import options, progress
from jobs.cli.answers import run_operation
from jobs.operations import report
from jobs.printer import Printer
from jobs.terminal import print_lines


@options.can_ring
def watch(batch: options.AnyBatch = None, *, as_json: options.AsJson = False) -> None:
    """Follow a batch, or the newest, until all is done."""
    screen = progress.json_screen() if as_json else progress.screen_for(Printer())
    status = run_operation(lambda operations: progress.watch(operations, batch, screen, _say))
    if not as_json:
        print_lines([report.end_note(status)])
    raise typer.Exit(report.exit_code(status))


def _say(text: str) -> None:
    print_lines([text], stderr=True)
