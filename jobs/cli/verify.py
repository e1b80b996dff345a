"""`python -m jobs verify BATCH`: argument parsing only; `jobs.verify.verify` looks."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli import report
from jobs.config import Config

BatchName = Annotated[str, typer.Argument(metavar="BATCH", help="Name of a batch.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]


def verify(
    batch: BatchName,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Measure the files, do not read them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare folder, results and Redis; exit 1 if they disagree."""
    from jobs.verify.disagreements import verification_lines  # noqa: PLC0415 - `status` and `watch` start faster without
    from jobs.verify.verify import verify as look  # noqa: PLC0415 - as above

    found = look(batch, Config.load(), read=not quick)
    if as_json:
        typer.echo(report.as_json(found))
    else:
        report.Printer().lines(verification_lines(found))
    raise typer.Exit(0 if found.agrees else 1)
