"""`enqueue`: checks prompts and puts them in the queue."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from jobs import terminal
from jobs.cli import options
from jobs.cli.answers import run_operation, show_receipt
from jobs.cli.confirm import confirm_costs
from jobs.cli.progress import progress_line
from jobs.config import Config
from jobs.enqueue.enqueue import check as check_prompts
from jobs.operations import report
from jobs.printer import Printer
from jobs.terminal import print_lines

if TYPE_CHECKING:
    from jobs.enqueue.enqueue import Checked, Order
    from jobs.enqueue.estimate import Confirm
    from jobs.enqueue.sharding import Receipt


@options.takes(options.OrderOptions)
def enqueue(
    choice: options.OrderOptions,
    *,
    check: Annotated[bool, typer.Option("--check", help="Only validate; nothing is enqueued.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Check a prompts file and enqueue what is not done yet."""
    order = choice.order()
    if check:
        _show_checked(order.file_name, asyncio.run(check_prompts(order, Config.load())), as_json=as_json)
    else:
        receipt = _enqueue(order, confirm_costs(choice.confirm_above, order.file_name))
        show_receipt(receipt, order.path, as_json=as_json)


def _enqueue(order: Order, confirm: Confirm | None) -> Receipt:
    with progress_line(Printer(stderr=True)) as progress:
        return run_operation(lambda operations: operations.enqueue(order, progress, confirm), start=True)


def _show_checked(source: str, checked: Checked, *, as_json: bool) -> None:
    if as_json:
        typer.echo(terminal.as_json(checked))
    else:
        print_lines([*report.check_lines(source, checked), "The same command without --check enqueues them"])
