"""Runs one operation of a command, and shows what several commands answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import typer

from jobs import terminal
from jobs.config import Config
from jobs.operations import report
from jobs.redis_client.server import check_has_run
from jobs.terminal import STOPPED, print_lines

if TYPE_CHECKING:
    from jobs.enqueue.sharding import Receipt
    from jobs.operations.operations import Operations
    from jobs.operations.preview import Preview

Answer = TypeVar("Answer")


def run_operation(operation: Callable[[Operations], Awaitable[Answer]], *, start: bool = False) -> Answer:
    """Run one operation on an open Redis; `start` an embedded server even where none has ever run."""
    if not start:
        check_has_run(Config.load())
    from jobs.operations.operations import Operations

    async def run() -> Answer:
        async with Operations.opened(start=start) as operations:
            return await operation(operations)

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        raise typer.Exit(STOPPED) from None


def show_preview(preview: Preview, *, as_json: bool) -> None:
    """Show what an operation would do."""
    from jobs.operations.preview import preview_lines

    if as_json:
        typer.echo(terminal.as_json(preview))
    else:
        print_lines(preview_lines(preview))


def show_receipt(receipt: Receipt, source: str | None = None, *, as_json: bool) -> None:
    """Show what was enqueued."""
    if as_json:
        typer.echo(terminal.as_json(receipt))
    else:
        print_lines(report.receipt_lines(receipt, source))
