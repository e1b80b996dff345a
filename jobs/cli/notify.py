"""`notify`: the receivers of notify.toml and their last messages, and `notify test`, which sends one to each."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from jobs import terminal
from jobs.cli import options
from jobs.cli.tables import Column, Columns
from jobs.config import Config, read_environment
from jobs.errors import NothingEnqueued, RedisUnreachable
from jobs.printer import Printer
from jobs.terminal import print_lines
from jobs.wire import as_local

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jobs.notify.delivery import Record
    from jobs.notify.file import ReceiversFile
    from jobs.notify.overview import Notifications, Trial

NO_RECEIVER = (
    "There is no receiver; they are read from notify.toml, or the file that BATCH_NOTIFY names; "
    "`python -m jobs notify test` tries them."
)

app = typer.Typer(
    no_args_is_help=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
)


@app.callback(invoke_without_command=True)
def notify(context: typer.Context, *, as_json: options.AsJson = False) -> None:
    """List receivers and last messages; exit 2 when one is wrong."""
    if context.invoked_subcommand:
        return
    found = asyncio.run(_read())
    if as_json:
        typer.echo(terminal.as_json(found))
    else:
        printer = Printer()
        printer.show(_receivers_table(found))
        if found.receivers and found.deliveries:
            printer.print()
        printer.show(_deliveries_table(found.deliveries), _notes(found))
    raise typer.Exit(2 if found.problems else 0)


@app.command("test")
def send_test_messages(
    receiver: Annotated[str | None, typer.Argument(metavar="RECEIVER", help="Only this one.")] = None,
    *,
    as_json: options.AsJson = False,
) -> None:
    """Send a test message to each receiver; exit code 1 when one fails."""
    file = _load()
    found, wrong = asyncio.run(_try(file, receiver)), "" if receiver else file.error
    if as_json:
        typer.echo(terminal.as_json(found))
    else:
        width = max(len(one.receiver) for one in found)
        print_lines(f"{one.receiver:<{width}}  {one.error or 'delivered'}{_hint(one)}" for one in found)
        print_lines([wrong] if wrong else (), stderr=True)
    raise typer.Exit(1 if wrong or not all(one.delivered for one in found) else 0)


def _hint(one: Trial) -> str:
    return f"; {one.hint}" if one.hint else ""


def _load() -> ReceiversFile:
    from jobs.notify.file import load

    return load(Config.load().notify, read_environment())


async def _read() -> Notifications:
    from jobs.notify.overview import read_notifications
    from jobs.operations.operations import Operations
    from jobs.state.outbox import Outbox

    file = _load()
    try:
        async with Operations.opened(start=False) as operations:
            return await read_notifications(file, Outbox(operations.redis, operations.config.api_host))
    except NothingEnqueued:
        return await read_notifications(file, None)


async def _try(file: ReceiversFile, name: str | None) -> Sequence[Trial]:
    from jobs.notify.overview import chosen, send_trials
    from jobs.notify.sender import Sender

    receivers = chosen(file, name)
    async with Sender.opened({**os.environ}) as sender:
        found = await send_trials(file, receivers, sender)
    with suppress(NothingEnqueued, RedisUnreachable):
        await _reopen([one.receiver for one in found if one.delivered])
    return found


async def _reopen(receivers: Sequence[str]) -> None:
    """Let workers deliver again to receivers that had answered 410."""
    from jobs.operations.operations import Operations
    from jobs.state.outbox import Outbox

    async with Operations.opened(start=False) as operations:
        outbox = Outbox(operations.redis, operations.config.api_host)
        for name in receivers:
            await outbox.unsilence(name)


def _receivers_table(found: Notifications) -> Columns:
    receivers = found.receivers
    states = [_state(one.last, refuses=one.refuses) for one in receivers]
    return Columns(
        [
            Column("receiver", [one.name for one in receivers]),
            Column("kind", [one.kind for one in receivers], gives_way=2),
            Column("events", [", ".join(one.events) for one in receivers], gives_way=3, wraps=True),
            Column("batches", [one.batches for one in receivers], gives_way=4),
            Column("waiting", [str(one.waiting or "") for one in receivers], right=True),
            Column("last message", states, gives_way=1),
        ]
    )


def _state(last: Record | None, *, refuses: bool) -> str:
    if refuses:
        return "refused: it wants no more"
    if last is None:
        return ""
    return f"{'delivered' if last.delivered else 'failed'} {as_local(last.at)}"


def _deliveries_table(deliveries: Sequence[Record]) -> Columns:
    return Columns(
        [
            Column("time", [as_local(one.at) for one in deliveries], gives_way=1),
            Column("to", [one.receiver for one in deliveries]),
            Column("message", [one.title for one in deliveries], wraps=True),
            Column("try", [str(one.tries) for one in deliveries], right=True, gives_way=2),
            Column("outcome", [one.error or "delivered" for one in deliveries], wraps=True),
        ]
    )


def _notes(found: Notifications) -> Iterator[str]:
    yield from (f"{found.file}: {problem}" for problem in found.problems)
    if found.receivers:
        yield "`python -m jobs notify test` sends a test message to each."
    elif not found.problems:
        yield NO_RECEIVER
