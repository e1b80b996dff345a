"""The command line: only parses arguments; `jobs.operations` does the work and writes the texts."""

from __future__ import annotations

import asyncio
import gc
import shutil
import sys
import time
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]  # exported since its first version

from jobs import terminal
from jobs.cli import costs, history, notify, options, prices, schedules, steering, tables
from jobs.cli.answers import run_operation, show_receipt
from jobs.cli.confirm import confirm_costs
from jobs.cli.selection_options import BatchOptions
from jobs.cli.shell import completion
from jobs.config import Config
from jobs.errors import NothingEnqueued
from jobs.operations import report
from jobs.terminal import Commands, Printer, run_app
from jobs.wire import Status

if TYPE_CHECKING:
    from jobs.enqueue.enqueue import Checked, Order
    from jobs.enqueue.estimate import Confirm
    from jobs.enqueue.sharding import Receipt
    from jobs.operations.operations import Operations

COLLECT_EVERY = 50_000
"""New objects after which Python looks for cycles: rows have none, and looking at each takes a fifth of the time."""


class JobsCommands(Commands):
    """The commands of `python -m jobs`, and what `replicate-batch` adds."""

    sections: ClassVar = {
        "Run": ("run", "enqueue", "worker", "schedules"),
        "Look": ("status", "watch", "logs", "results", "open", "gallery", "costs", "dashboard"),
        "Steer": ("retry", "limit", "pause", "resume", "cancel", "delete"),
        "Set up": ("prices", "notify", "completion", "simulator"),
        "Check and repair": ("verify", "doctor", "check", "orphans", "redis-stop"),
    }


app = typer.Typer(
    cls=JobsCommands, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
app.command()(costs.costs)
app.add_typer(prices.app, name="prices")
app.add_typer(completion.app, name="completion")
app.add_typer(notify.app, name="notify")
app.add_typer(schedules.app, name="schedules")


def main() -> None:
    """Run the command that the arguments name."""
    completion_init()
    gc.set_threshold(COLLECT_EVERY, *gc.get_threshold()[1:])
    run_app(app)


def _enqueue(order: Order, confirm: Confirm | None) -> Receipt:
    from jobs.cli.progress import progress_line

    with progress_line(Printer(stderr=True)) as progress:
        return run_operation(lambda operations: operations.enqueue(order, progress, confirm), start=True)


def _show_checked(source: str, checked: Checked, *, as_json: bool) -> None:
    if as_json:
        typer.echo(terminal.as_json(checked))
    else:
        Printer().lines(report.check_lines(source, checked))


def _end(status: Status) -> None:
    raise typer.Exit(1 if status.failed or status.canceled or status.stuck else 0)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        typer.echo(f"replicate-batch {version('replicate-batch')}")
        raise typer.Exit


@app.callback()
def replicate_batch(
    *,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run files of prompts through Replicate and find every output on disk."""


@app.command()
@options.takes(options.OrderOptions)
def enqueue(
    choice: options.OrderOptions,
    *,
    check: Annotated[bool, typer.Option("--check", help="Only validate; nothing is enqueued.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Check a prompts file and enqueue what is not done yet."""
    from jobs.enqueue.enqueue import check as check_prompts

    order = choice.order()
    if check:
        _show_checked(order.file_name, asyncio.run(check_prompts(order, Config.load())), as_json=as_json)
    else:
        show_receipt(_enqueue(order, confirm_costs(choice.confirm_above, order.file_name)), as_json=as_json)


@app.command()
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
    from jobs.cli import run as burst
    from jobs.cli.pilot import by_line, pilot_lines, pilot_order

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
    _end(status)


@app.command()
@options.takes(BatchOptions)
def status(chosen: BatchOptions, batch: options.AnyBatch = None, *, as_json: options.AsJson = False) -> None:
    """Show the state of a batch, or of all batches, newest first."""
    from jobs.redis_client.client import server_name

    only = chosen.filter()
    if batch and only:
        raise typer.BadParameter("it lists batches: leave out BATCH, or the options", param_hint="BATCH")

    async def read(operations: Operations) -> tuple[list[Status], list[str]]:
        if batch:
            return [await operations.status(batch)], []
        found, warnings = await operations.statuses(), await operations.schedule_warnings()
        return found, warnings if found else [f"Asked: {server_name(operations.config)}.", *warnings]

    try:
        every, warnings = run_operation(read)
    except NothingEnqueued as error:
        if batch:
            raise
        every, warnings = [], [str(error)]
    found = only.apply(every) if only else every
    if as_json:
        typer.echo(terminal.as_json(found[0] if batch else found))
    else:
        table = tables.batch_table(found[0], time.time()) if batch else tables.batches_table(found, time.time())
        notes = [report.NO_SUCH_BATCH] if every and not found else [*report.notes(found)]
        if batch and report.is_finished(found[0]):
            notes += filter(None, [report.failure_note(batch, found[0].failed + found[0].canceled)])
        Printer().show(table, [*notes, *warnings])


@app.command()
@options.can_ring
def watch(batch: options.AnyBatch = None, *, as_json: options.AsJson = False) -> None:
    """Follow a batch, or the newest, until all is done."""
    from jobs.cli import progress

    screen = progress.json_screen() if as_json else progress.screen_for(Printer())
    _end(run_operation(lambda operations: progress.watch(operations, batch, screen)))


@app.command()
def results(
    batch: options.BatchName,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Only the prompts that did not succeed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results, one JSON object a line.")] = False,
) -> None:
    """Write results.jsonl and errors.jsonl as of now; sum up."""
    from jobs.batch_folder.results import read_results, write_results
    from jobs.operations.operations import known_folder

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


@app.command()
def gallery(batch: options.BatchName) -> None:
    """Write the batch's gallery as of now and print its path."""
    from jobs.batch_folder.gallery import write_gallery
    from jobs.operations.operations import known_folder

    config = Config.load()
    typer.echo(write_gallery(known_folder(batch, config), fsync=config.fsync))


for steer in (steering.retry, steering.limit, steering.pause, steering.resume, steering.cancel):
    app.command()(steer)
app.command()(history.logs)
app.command("open")(history.open_batch)


@app.command()
def delete(
    batch: options.BatchName,
    *,
    force: Annotated[bool, typer.Option("--force", help="Even while it is unfinished.")] = False,
) -> None:
    """Forget a batch and take it off the queue; its folder stays."""
    running = run_operation(lambda operations: operations.delete(batch, force=force))
    typer.echo(f"{batch} is forgotten; its folder stays.")
    if running:
        typer.echo(f"{running} of its predictions may run on: `python -m worker orphans --cancel` ends them.")


@app.command()
def dashboard(
    *,
    host: Annotated[str, typer.Option(help="Where to listen; other than this machine needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any that is free.", min=0, max=65_535)] = 8787,
    read_only: Annotated[bool, typer.Option("--read-only", help="Show all, and let nobody change it.")] = False,
) -> None:
    """Serve pages that show and steer batches as they run."""
    from jobs.dashboard.server import access_for, listen, serve

    config = Config.load()
    access, listener = access_for(config, host, read_only=read_only), listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    Printer().lines([f"The dashboard is at http://{shown}:{listener.getsockname()[1]}/ until Ctrl-C."])
    asyncio.run(serve(config, listener, access))


@app.command("redis-stop")
def redis_stop() -> None:
    """Stop the embedded server; it starts again when needed."""
    from jobs.redis_client import embedded

    typer.echo("Stopped." if embedded.stop(Config.load().redis_dir) else "No embedded server was running.")


@app.command()
def verify(
    batch: options.BatchName,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Measure the files, do not read them.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Compare folder, results and Redis; exit 1 if they disagree."""
    from jobs.verify.disagreements import verification_lines
    from jobs.verify.verify import verify as verify_batch

    found = verify_batch(batch, Config.load(), read=not quick)
    if as_json:
        typer.echo(terminal.as_json(found))
    else:
        Printer().lines(verification_lines(found))
    raise typer.Exit(0 if found.agrees else 1)
