"""`delete`: forgets a batch."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli import options
from jobs.cli.answers import run_operation
from jobs.terminal import print_lines


def delete(
    batch: options.BatchName,
    *,
    force: Annotated[bool, typer.Option("--force", help="Even while it is unfinished.")] = False,
) -> None:
    """Forget a batch and take it off the queue; its folder stays."""
    running = run_operation(lambda operations: operations.delete(batch, force=force))
    print_lines([f"{batch} is forgotten; its folder stays: `python -m jobs status --all` lists it."])
    if running:
        print_lines([f"{running} of its predictions may run on: `python -m worker orphans --cancel` ends them."])
