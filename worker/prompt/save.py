"""From an ended prediction to a record on disk: save its files, write its result, commit both by one rename.

Whatever the disk refuses is tried again for as long as it takes: the prediction is paid for.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from jobs.batch_folder.results import damaged
from jobs.errors import DamagedRecord, ForeignFolder, StorageError
from jobs.replicate_api.predictions import Prediction
from jobs.state.ledger import Entry
from jobs.wire import Failure, Outcome, Result, timestamp
from worker.backoff import Backoff
from worker.context import Work
from worker.outputs.folder_health import HOLD, is_of_one_folder
from worker.outputs.shape import is_empty
from worker.prompt.cost import total
from worker.prompt.fetch import fetch, kept_after_intent

logger = logging.getLogger(__name__)
DISK = Backoff(base=1.0, cap=15.0)

RUN = secrets.token_hex(8)
"""With a number it makes names that no other process uses; dice of the system for each would cost a GIL switch."""

_numbers = count(1)


def read_record(work: Work) -> Result | None:
    """The result that is on disk already, if there is one; StorageError when the disk does not tell.

    ForeignFolder when something else is in its place: better known before the prompt is paid for.
    """
    work.folder.check(work.shard.batch_id)
    target = work.folder.prompt(work.prompt.id)
    if _is_free(target):
        return None
    try:
        encode_record = work.folder.read_record(work.prompt.id)
    except DamagedRecord as error:
        return damaged(work.prompt, error)
    if encode_record is None and target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ForeignFolder(f"{target} is in the way: it is no record of a prompt; move it away", target)
    return encode_record


def _is_free(target: Path) -> bool:
    """Nothing is there, for certain: most prompts' case, in one system call; of trouble the record tells."""
    try:
        target.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def try_read_record(work: Work) -> Result | None:
    """The record if the disk shows it at once; a disk in trouble is for others to wait for."""
    with suppress(StorageError):
        return read_record(work)
    return None


async def save(work: Work, entry: Entry, prediction: Prediction, *, keep_trying: bool = True) -> Result:
    """Save every file of a succeeded prediction and commit its result; OutputError when a file cannot be had.

    With `keep_trying`, a break costs no new prediction: it is repeated while Replicate keeps the files.
    """
    until = await kept_after_intent(work, entry, prediction)

    async def save_in(directory: Path) -> Result:
        ended, saved = await fetch(work, prediction, directory, unsaved, keep_trying=keep_trying)
        facts = {"output": saved.output, "files": saved.files, "unsaved": saved.unsaved}
        result = _result(work, entry, ended, status="succeeded", empty=is_empty(saved.output), **facts)
        return await _commit(work, directory, result, saved.without_data(ended.raw))

    def is_blocked() -> bool:
        return work.worker.folders.own_trouble(work.folder.path) is not None

    with work.worker.outputs.backlog.unsaved(until, is_blocked) as unsaved:
        return await _persistently(work, save_in)


async def commit_failure(
    work: Work, entry: Entry, failure: Failure, prediction: Prediction | None = None, outcome: Outcome = "failed"
) -> Result:
    """Commit the result of a prompt that has no output; a create that was never answered may have been paid."""
    if entry.ambiguous:
        entry = await work.ledger.close(entry, entry.reserved, "unknown")
    result = _result(work, entry, prediction, status=outcome, error=failure)

    async def commit_in(directory: Path) -> Result:
        return await _commit(work, directory, result, prediction.raw if prediction else None)

    return await _persistently(work, commit_in)


async def _persistently(work: Work, act: Callable[[Path], Awaitable[Result]]) -> Result:
    """Act in a new folder below `.saving` until the disk takes it; meanwhile nobody creates predictions for it."""
    folders, path, tries = work.worker.folders, work.folder.path, 0
    with folders.saving(path):
        while True:
            try:
                async with folders.probe(path):
                    result = await _once(work, act)
                    folders.succeeded(path)
                    return result
            except StorageError as error:
                if found := await asyncio.to_thread(try_read_record, work):
                    return found
                tries += 1
                logger.warning("! %s: cannot be saved, trying on: %s", work.name, error)
                if not isinstance(error, ForeignFolder):  # a folder in one prompt's way is no trouble of the disk
                    alone = is_of_one_folder(error)
                    folders.failed(path, str(error), alone=alone)
                    if not alone:
                        await work.worker.account.report_trouble(str(error), HOLD)
            await asyncio.sleep(DISK.delay(tries))


async def _once(work: Work, act: Callable[[Path], Awaitable[Result]]) -> Result:
    directory = work.folder.saving(work.prompt.id, f"{RUN}{next(_numbers):x}")
    try:
        return await act(directory)
    except BaseException:
        await _discard(work, directory)
        raise


async def _discard(work: Work, directory: Path) -> None:
    try:
        await work.worker.outputs.storage.discard(directory)
    except StorageError as error:
        logger.debug("%s: %s", work.name, error)


async def _commit(work: Work, directory: Path, result: Result, raw: Any) -> Result:
    """Rename the folder into place; when somebody committed first, theirs is the result.

    Overtaken when the shard's lease may be another worker's by now: it may be making the next attempt.
    """
    target, content, owner = work.folder.prompt(work.prompt.id), encode_record(result, raw), work.shard.batch_id
    work.demand_lease()
    if await work.worker.outputs.storage.commit(directory, target, content, owner):
        return result
    await _discard(work, directory)
    theirs = await asyncio.to_thread(read_record, work)
    if theirs is None:
        raise StorageError(f"{target} could not take its record", target)
    logger.info("%s: another worker committed first", work.name)
    return theirs


def encode_record(result: Result, raw: Any) -> bytes:
    """prediction.json: a result with the prediction as received."""
    try:
        return to_json(dict(result) | {"prediction": raw}, indent=1)
    except ValueError:  # lone surrogates, or nested too deep for it
        text = json.dumps(result.model_dump() | {"prediction": raw}, ensure_ascii=False, indent=1)
        return text.encode(errors="replace")


def _result(work: Work, entry: Entry, prediction: Prediction | None, **outcome: Any) -> Result:
    return Result(
        id=work.prompt.id,
        index=work.prompt.index,
        attempts=entry.attempt,
        prediction_id=entry.prediction_ids[-1] if entry.prediction_ids else None,
        prediction_ids=entry.prediction_ids,
        unknown_creates=entry.unknown_creates,
        model=work.prompt.model,
        version=prediction.text("version") if prediction else None,
        input=work.prompt.input,
        metrics=prediction.metrics if prediction else {},
        cost=total(work, entry, prediction),
        created_at=_time(prediction, "created_at"),
        completed_at=_time(prediction, "completed_at"),
        saved_at=timestamp(),
        **outcome,
    )


def _time(prediction: Prediction | None, name: str) -> str | None:
    seconds = prediction.time(name) if prediction else None
    return timestamp(seconds) if seconds is not None else None
