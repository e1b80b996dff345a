"""`run`: enqueues, works, and sums up."""

from __future__ import annotations

from datetime import datetime

import typer

from jobs import terminal
from jobs.cli import options
from jobs.cli import run as burst
from jobs.cli.answers import run_operation
from jobs.cli.confirm import confirm_costs
from jobs.cli.pilot import by_line, pilot_lines, pilot_order
from jobs.config import Config
from jobs.operations import report
from jobs.printer import Printer


@options.takes(options.OrderOptions)
@options.can_ring
def run(
    choice: options.OrderOptions,
    *,
    pilot: options.PilotSize = None,
    pilot_seed: options.PilotSeed = None,
    by: options.By = None,
    everything: options.Everything = False,
    as_json: options.AsJson = False,
) -> None:
    """Enqueue, work with progress shown, sum up: all in one command."""
    order = pilot_order(choice.order(), pilot, pilot_seed)
    printer = Printer(stderr=as_json)
    if by:
        printer.lines([by_line(order, Config.load(), by, datetime.now().astimezone())])
    confirm = confirm_costs(choice.confirm_above, order.file_name)
    status = run_operation(
        lambda operations: burst.run(operations, order, printer, confirm, everything=everything), start=True
    )
    if pilot and report.is_finished(status):
        printer.lines(pilot_lines(choice.order(), Config.load()))
    if as_json:
        typer.echo(terminal.as_json(status))
    raise typer.Exit(report.exit_code(status))
