"""`logs`: what happened to a batch or a prompt; `open`: its gallery in a browser."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel

from jobs import terminal
from jobs.batch_folder.folder import Folder
from jobs.cli import options
from jobs.cli.answers import run_operation
from jobs.cli.shell import candidates
from jobs.config import Config
from jobs.errors import BatchNotFound, NothingEnqueued, RedisUnreachable
from jobs.events.event import Event
from jobs.operations import history
from jobs.terminal import print_lines

if TYPE_CHECKING:
    from jobs.operations.operations import Operations

FOLLOW_SECONDS = 1.0
"""Seconds between two readings of the log."""

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until the batch is finished.")]
Prompt = Annotated[
    str | None, typer.Argument(metavar="PROMPT", help="Id of a prompt of the batch.", autocompletion=candidates.prompts)
]
PrintOnly = Annotated[bool, typer.Option("--print", help="Only print where it is.")]


def logs(
    batch: options.BatchName,
    prompt: Prompt = None,
    *,
    since: options.Since = None,
    follow: Follow = False,
    as_json: options.AsJsonLines = False,
) -> None:
    """Show what happened to a batch, or to one of its prompts."""
    start = since.timestamp() if since else 0.0
    if follow and not prompt:
        show = _writer(as_json=as_json)
        return run_operation(lambda operations: _follow(operations, batch, start, show))
    found = _read(batch, start)
    folder = Folder(Config.load().output_dir, batch)
    if prompt is None:
        show = _writer(as_json=as_json)
        for event in found:
            show(event)
        if not found and not as_json:
            print_lines([f"Nothing is known of {batch} since then: `python -m jobs logs {batch}` shows all."])
        return None
    log = history.prompt_log(folder, prompt, found)
    _print(log, as_json=as_json) if as_json else print_lines(history.prompt_lines(log))
    return None


def _print(facts: BaseModel, *, as_json: bool) -> None:
    if as_json:
        typer.echo(terminal.as_json(facts))
    elif isinstance(facts, Event):
        print_lines([history.event_line(facts)])


def _writer(*, as_json: bool) -> Callable[[Event], None]:
    return lambda event: _print(event, as_json=as_json)


def _read(batch: str, since: float) -> list[Event]:
    """The events of a batch, from its folder alone when Redis does not know it or does not answer; BatchError."""
    from jobs.operations.operations import known_folder

    async def read(operations: Operations) -> list[Event]:
        folder = Folder(operations.config.output_dir, batch)
        if folder.batch_id() is None:
            await operations.status(batch)
        return await history.events_of(folder, operations.redis, since)

    try:
        return run_operation(read)
    except (RedisUnreachable, NothingEnqueued):
        return asyncio.run(history.events_of(known_folder(batch, Config.load()), None, since))


async def _follow(operations: Operations, batch: str, since: float, show: Callable[[Event], None]) -> None:
    folder, known = Folder(operations.config.output_dir, batch), set[str]()
    while True:
        status = await operations.status(batch)
        for event in await history.events_of(folder, operations.redis, since):
            if event.id not in known:
                known.add(event.id)
                show(event)
        if status.finished_at:
            return
        await asyncio.sleep(FOLLOW_SECONDS)


def open_batch(batch: options.BatchName, prompt: Prompt = None, *, print_only: PrintOnly = False) -> None:
    """Open a batch's gallery, or a prompt's files, in a browser."""
    from jobs.cli.shell.browser import open_in_browser
    from jobs.operations.operations import known_folder

    config = Config.load()
    folder = known_folder(batch, config)
    if prompt is None:
        from jobs.batch_folder.gallery import write_gallery

        target = folder.gallery if folder.gallery.exists() else write_gallery(folder, fsync=config.fsync)
    else:
        if not history.results_of(folder, prompt):
            hint = f"`python -m jobs logs {batch} {prompt}` says what is known of it"
            raise BatchNotFound(f"{prompt!r} of {batch!r} has no result yet; {hint}")
        target = folder.prompt(prompt)
    if print_only or not open_in_browser(target):
        typer.echo(target.absolute())
