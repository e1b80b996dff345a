"""`verify`: whether folder, results and Redis agree."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs import terminal
from jobs.cli import options
from jobs.cli.progress import progress_line
from jobs.config import Config
from jobs.printer import Printer
from jobs.terminal import print_lines
from jobs.verify.disagreements import verification_lines
from jobs.verify.verify import verify as verify_batch


def verify(
    batch: options.BatchName,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Measure the files, do not read them.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Compare folder, results and Redis; exit 1 if they disagree."""
    with progress_line(Printer(stderr=True)) as progress:
        found = verify_batch(batch, Config.load(), read=not quick, progress=progress)
    if as_json:
        typer.echo(terminal.as_json(found))
    else:
        print_lines(verification_lines(found))
    raise typer.Exit(0 if found.agrees else 1)
