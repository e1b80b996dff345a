"""From an ended prediction to a record on disk: save its files, write its result, commit both by one rename.

Whatever the disk refuses is tried again for as long as it takes: the prediction is paid for.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from jobs.errors import BrokenDownload, DamagedRecord, ForeignFolder, OutputGone, ReplicateError, StorageError
from jobs.ledger import Entry
from jobs.models import Failure, Outcome, Result, timestamp
from jobs.results import damaged
from worker.context import Work
from worker.outputs import Saved
from worker.replicate import Prediction
from worker.retry import Backoff
from worker.spending import total

logger = logging.getLogger("worker.saving")
_URL = re.compile(r"https?://[^\s/]+/\S+")
DISK = Backoff(base=1.0, cap=15.0)

RETENTION = 3600.0
"""Seconds that Replicate keeps an output; assumed to count from the prediction's end."""


def recorded(work: Work) -> Result | None:
    """The result that is on disk already, if there is one; StorageError when the disk does not tell.

    ForeignFolder when something else is in its place: better known before the prompt is paid for.
    """
    try:
        record = work.folder.read_record(work.prompt.id)
    except DamagedRecord as error:
        return damaged(work.prompt, error)
    target = work.folder.prompt(work.prompt.id)
    if record is None and target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ForeignFolder(f"{target} is in the way: it is no record of a prompt; move it away", target)
    return record


async def save(work: Work, entry: Entry, prediction: Prediction, *, keep_trying: bool = True) -> Result:
    """Save every file of a succeeded prediction and commit its result; OutputError when a file cannot be had.

    With `keep_trying`, a break costs no new prediction: it is repeated while Replicate keeps the files.
    """
    kept_until = (prediction.time("completed_at") or time.time()) + RETENTION if keep_trying else 0.0

    async def save_in(directory: Path) -> Result:
        ended, saved = await _download(work, prediction, directory, kept_until)
        _warn_of_strangers(work, saved)
        result = _result(work, entry, ended, status="succeeded", output=saved.output, files=saved.files)
        return await _commit(work, directory, result, saved.without_data(ended.raw))

    return await _persistently(work, save_in)


async def _download(work: Work, prediction: Prediction, directory: Path, kept_until: float) -> tuple[Prediction, Saved]:
    """Download an output, again and again until `kept_until` (Unix seconds) if the transfer breaks.

    A file that seems gone is looked for once more, by the URLs that the prediction has now.
    """
    looked_again = False
    while True:
        try:
            return prediction, await work.worker.outputs.save(work.prompt.id, directory, prediction.output)
        except BrokenDownload as error:
            if time.time() > kept_until:
                raise
            logger.warning("! %s: cannot be downloaded, trying on: %s", work.name, error)
        except OutputGone:
            if looked_again:
                raise
            looked_again = True
            prediction = await _look_again(work, prediction)


def _warn_of_strangers(work: Work, saved: Saved) -> None:
    """An output that is nothing but a URL on another host is text by our rules; somebody should know of it."""
    if not saved.files and isinstance(saved.output, str | list) and work.worker.config.use_file_output:
        texts = [saved.output] if isinstance(saved.output, str) else saved.output
        strangers = [text for text in texts if isinstance(text, str) and _URL.fullmatch(text)]
        if strangers and len(strangers) == len(texts):
            logger.warning(
                "! %s: its output is a URL on a host that BATCH_OUTPUT_HOSTS does not name, kept as text and not "
                "downloaded: %s",
                work.name,
                strangers[0][:200],
            )


async def _look_again(work: Work, prediction: Prediction) -> Prediction:
    try:
        async with work.worker.gate.passing("read"):
            found = await work.worker.replicate.get(prediction.id)
    except ReplicateError as error:
        logger.info("%s: cannot be looked up again: %s", work.name, error)
        return prediction
    return found if found.status == "succeeded" and not found.data_removed else prediction


async def commit_failure(
    work: Work, entry: Entry, failure: Failure, prediction: Prediction | None = None, outcome: Outcome = "failed"
) -> Result:
    """Commit the result of a prompt that has no output."""
    result = _result(work, entry, prediction, status=outcome, error=failure)

    async def commit_in(directory: Path) -> Result:
        return await _commit(work, directory, result, prediction.raw if prediction else None)

    return await _persistently(work, commit_in)


async def _persistently(work: Work, act: Callable[[Path], Awaitable[Result]]) -> Result:
    """Act in a new folder below `.saving` until the disk takes it; meanwhile nobody creates predictions."""
    tries = 0
    while True:
        directory = work.folder.saving(work.prompt.id, secrets.token_hex(8))
        try:
            return await act(directory)
        except StorageError as error:
            tries += 1
            logger.warning("! %s: cannot be saved, trying on: %s", work.name, error)
            await _discard(work, directory)
            if not isinstance(error, ForeignFolder):  # a folder in one prompt's way is no trouble of the disk
                await work.worker.account.report_trouble(str(error))
        except BaseException:
            await _discard(work, directory)
            raise
        await asyncio.sleep(DISK.delay(tries))


async def _discard(work: Work, directory: Path) -> None:
    try:
        await work.worker.outputs.storage.discard(directory)
    except StorageError as error:
        logger.debug("%s: %s", work.name, error)


async def _commit(work: Work, directory: Path, result: Result, raw: Any) -> Result:
    """Rename the folder into place; when somebody committed first, theirs is the result."""
    record = json.dumps(result.model_dump() | {"prediction": raw}, ensure_ascii=False, indent=1)
    target = work.folder.prompt(work.prompt.id)
    if await work.worker.outputs.storage.commit(directory, target, record.encode(errors="replace")):
        return result
    await _discard(work, directory)
    theirs = await asyncio.to_thread(recorded, work)
    if theirs is None:
        raise StorageError(f"{target} could not take its record", target)
    logger.info("%s: another worker committed first", work.name)
    return theirs


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
