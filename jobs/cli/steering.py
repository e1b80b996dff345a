"""The commands that steer a batch as it runs: `retry`, `pause`, `resume`, `cancel`."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs import terminal
from jobs.cli import options
from jobs.cli.answers import run_operation, show_preview, show_receipt
from jobs.cli.confirm import confirm_costs
from jobs.cli.selection_options import FailureOptions
from jobs.operations import report
from jobs.terminal import Printer
from jobs.text import printable


@options.takes(FailureOptions, options.BudgetOptions)
def retry(
    chosen: FailureOptions,
    limits: options.BudgetOptions,
    batch: options.BatchName,
    *,
    confirm_above: options.ConfirmAbove = None,
    dry_run: options.DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Enqueue again the prompts that failed or were canceled."""
    only = chosen.selection()
    if dry_run:
        return show_preview(run_operation(lambda operations: operations.preview_retry(batch, only)), as_json=as_json)
    confirm = confirm_costs(confirm_above, batch)
    receipt = run_operation(lambda operations: operations.retry(batch, limits.budget(), confirm, only))
    return show_receipt(receipt, as_json=as_json)


def pause(reason: Annotated[str, typer.Argument(help="What `status` shows meanwhile.")] = "paused by hand") -> None:
    """Create nothing more until `resume`; what runs is still saved."""
    typer.echo(printable(run_operation(lambda operations: operations.pause(reason), start=True)))


def resume() -> None:
    """Lift every pause: yours, a worker's (401, 402), a model's."""
    typer.echo("Resumed." if run_operation(lambda operations: operations.resume()) else "Nothing was paused.")


def cancel(batch: options.BatchName, *, dry_run: options.DryRun = False, as_json: options.AsJson = False) -> None:
    """Cancel what is not done; what runs is canceled at Replicate."""
    if dry_run:
        return show_preview(run_operation(lambda operations: operations.preview_cancel(batch)), as_json=as_json)
    status = run_operation(lambda operations: operations.cancel(batch))
    if as_json:
        typer.echo(terminal.as_json(status))
    else:
        Printer().lines(report.cancel_lines(status))
    return None
