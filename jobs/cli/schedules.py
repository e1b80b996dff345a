"""`schedules`: what is scheduled, and when it fires next."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from jobs import terminal
from jobs.cli import options, tables
from jobs.cli.answers import run_operation
from jobs.config import Config
from jobs.errors import NothingEnqueued
from jobs.operations import report
from jobs.printer import Printer

app = typer.Typer(
    no_args_is_help=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
)

Count = Annotated[int, typer.Argument(metavar="[N]", min=1, max=10_000, help="How many times; default: 5.")]


@app.callback(invoke_without_command=True)
def schedules(context: typer.Context, *, as_json: options.AsJson = False) -> None:
    """List the schedules; exit code 2 when one is wrong."""
    from jobs.schedules.scheduler import overview_without_redis

    if context.invoked_subcommand:
        return
    try:
        every = run_operation(lambda operations: operations.schedules())
    except NothingEnqueued:
        every = overview_without_redis(Config.load(), time.time())
    if as_json:
        typer.echo(terminal.as_json(every))
    else:
        Printer().show(tables.schedules_table(every), report.schedule_notes(every))
    raise typer.Exit(2 if any(one.next is None for one in every) else 0)


@app.command("next")
def next_times(count: Count = 5, *, as_json: options.AsJson = False) -> None:
    """List the next times of all schedules together; exit code 2 when a schedule is wrong."""
    from jobs.schedules.file import Schedule, describe, load
    from jobs.schedules.upcoming import next_times as find_times

    path = Config.load().schedules
    found = load(path)
    times = find_times([one for one in found if isinstance(one, Schedule)], time.time(), count)
    wrong = describe(path, found)
    if as_json:
        typer.echo(terminal.as_json(times))
    else:
        notes = [wrong] if wrong else []
        Printer().show(tables.fire_times_table(times), notes if found else [report.NO_SCHEDULE])
    raise typer.Exit(2 if wrong else 0)
