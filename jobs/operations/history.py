"""What is known of how a batch or a prompt fared: its events, and the results that its prompts had."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from pydantic import BaseModel

from jobs.batch_folder.folder import RETRIED, Folder
from jobs.errors import BatchNotFound, InputError, StorageError
from jobs.events.event import Event, read_events
from jobs.names import is_prompt_id
from jobs.text import printable
from jobs.wire import Result, as_local

if TYPE_CHECKING:
    from jobs.redis_client.resilience import Redis

_AGAIN = re.compile(r"\.(\d+)(?:\.(\d+))?")
"""How the names of folders with earlier results end: the generation, and a number where there are several."""


class PromptLog(BaseModel):
    """What is known of a prompt: the results that it had, the oldest first, and its events."""

    results: list[Result]
    events: list[Event]


async def events_of(folder: Folder, redis: Redis | None, since: float = 0.0) -> list[Event]:
    """The events of a batch since a time (Unix seconds) from Redis, if there is one, and from its folder."""
    found = {event.id: event for event in await asyncio.to_thread(read_events, folder)}
    if redis is not None:
        from jobs.events.log import read

        found |= {event.id: event for event in await read(redis, folder.batch)}
    return sorted((event for event in found.values() if event.seconds >= since), key=lambda event: event.at)


def results_of(folder: Folder, prompt: str) -> list[Result]:
    """The results of a prompt, the oldest first; InputError when the batch has no result of it."""
    if not is_prompt_id(prompt):
        raise InputError(f"{prompt!r} is no id of a prompt")
    found = []
    for place in [*_earlier(folder, prompt), prompt]:
        with suppress(StorageError):
            if result := folder.read_record(place):
                found.append(result)
    return found


def _earlier(folder: Folder, prompt: str) -> list[str]:
    """Where in the folder the prompt's earlier results are."""
    found = dict[tuple[int, int], str]()
    with suppress(FileNotFoundError):
        for path in (folder.path / RETRIED).iterdir():
            if path.name.startswith(prompt) and (end := _AGAIN.fullmatch(path.name[len(prompt) :])):
                found[int(end[1]), int(end[2] or 0)] = f"{RETRIED}/{path.name}"
    return [place for _, place in sorted(found.items())]


def prompt_log(folder: Folder, prompt: str, events: Iterable[Event]) -> PromptLog:
    """What is known of a prompt; BatchNotFound when nothing is."""
    log = PromptLog(results=results_of(folder, prompt), events=[event for event in events if event.prompt == prompt])
    if not log.results and not log.events:
        raise BatchNotFound(
            f"nothing is known of a prompt {prompt!r} of {folder.batch!r} yet; "
            f"`python -m jobs status {folder.batch}` shows how far the batch is"
        )
    return log


def event_line(event: Event) -> str:
    """An event as a line for people."""
    what = ": ".join(filter(None, (event.prompt, event.kind, event.message)))
    of = " of ".join(filter(None, (event.worker, event.model if event.event != "failed" else None)))
    return printable("  ".join(filter(None, (as_local(event.at), event.event.replace("_", " "), of, what))))


def prompt_lines(log: PromptLog) -> Iterator[str]:
    """What is known of a prompt as lines for people."""
    for result in log.results:
        when = as_local(result.saved_at) if result.saved_at else "earlier"
        attempts = f"{result.attempts} attempt{'' if result.attempts == 1 else 's'}"
        why = f": {result.error.kind}: {result.error.message}" if result.error else ""
        yield printable(f"{when}  {result.status} after {attempts} of {result.model}{why}")
        yield from (printable(f"  prediction {one}") for one in result.prediction_ids)
        yield from (printable(f"  {file.path}") for file in result.files)
    saved = {result.error.kind for result in log.results if result.error}
    yield from (event_line(event) for event in log.events if event.kind not in saved)
