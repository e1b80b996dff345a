"""From an ended prediction to a record on disk: download its files, write its result, commit both by one rename.

Replicate keeps the files for an hour; within it, whatever breaks or the disk refuses is tried again: they are paid for.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from jobs.batch_folder.rows.result_line import damaged_result
from jobs.errors import (
    BrokenDownload,
    DamagedRecord,
    ForeignFolder,
    NotFound,
    OutputGone,
    ReplicateError,
    StorageError,
)
from jobs.replicate_api.predictions import Prediction
from jobs.secret_inputs import secret_keys, shown_input
from jobs.state.ledger import Entry
from jobs.wire import Failure, Outcome, Result, timestamp
from worker.backoff import Backoff
from worker.context import Work
from worker.outputs.backlog import UnsavedOutput
from worker.outputs.folder_health import is_of_one_folder
from worker.outputs.saver import SavedOutput
from worker.outputs.shape import is_empty
from worker.outputs.staging import Staging
from worker.prompt.cost import total
from worker.prompt.retry_policy import SOON
from worker.telemetry.steps import step

logger = logging.getLogger(__name__)

DISK = Backoff(base=1.0, cap=15.0)
"""Between two tries to save what the disk refuses."""

ABSENT = Backoff(base=1.0, cap=240.0)
"""Between two tries to download a file that is not at its URL: it may come late, or its host is in trouble."""


def read_record(work: Work) -> Result | None:
    """The result that is on disk already, if there is one; StorageError when the disk does not tell.

    ForeignFolder when something else is in its place: better known before the prompt is paid for.
    """
    work.folder.check(work.shard.batch_id)
    target = work.folder.prompt(work.prompt.id)
    if _is_free(target):
        return None
    try:
        record = work.folder.read_record(work.prompt.id)
    except DamagedRecord as error:
        return damaged_result(work.prompt, error)
    if record is None and target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ForeignFolder(f"{target} is in the way: it is no record of a prompt; move it away", target)
    return record


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


@step("save")
async def save(work: Work, entry: Entry, prediction: Prediction, *, keep_trying: bool = True) -> Result:
    """Save every file of a succeeded prediction and commit its result; OutputError when a file cannot be had.

    With `keep_trying`, a break costs no new prediction: it is repeated while Replicate keeps the files.
    """
    until = await kept_after_intent(work, entry, prediction)

    async def save_in(staging: Staging) -> Result:
        ended, saved = await fetch(work, prediction, staging, unsaved, keep_trying=keep_trying)
        facts = {"output": saved.output, "files": saved.files, "unsaved": saved.unsaved}
        result = _result(work, entry, ended, status="succeeded", empty=is_empty(saved.output), **facts)
        return await _commit(work, staging, result, saved.without_data(ended.raw))

    def is_blocked() -> bool:
        return work.worker.folders.own_trouble(work.folder.path) is not None

    with work.worker.outputs.backlog.unsaved(until, is_blocked) as unsaved:
        return await _until_committed(work, save_in)


def kept_until(work: Work, prediction: Prediction) -> float:
    """When Replicate deletes the output, in Unix seconds of our clock."""
    now, created_at = time.time(), prediction.time("created_at")
    ended_at = prediction.time("completed_at") or (created_at and created_at + work.worker.config.deadline) or now
    return min(ended_at - work.worker.replicate.clock_offset, now) + work.worker.timing.retention


async def kept_after_intent(work: Work, entry: Entry, prediction: Prediction) -> float:
    """The same, by a clock that may be wrong: nothing ends before its intent."""
    until, retention = kept_until(work, prediction), work.worker.timing.retention
    if until > time.time() + retention / 2:
        return until
    return max(until, time.time() - await work.ledger.age(entry) + retention)


async def fetch(
    work: Work, prediction: Prediction, staging: Staging, unsaved: UnsavedOutput, *, keep_trying: bool
) -> tuple[Prediction, SavedOutput]:
    """Download an output; with `keep_trying` again and again, while it is kept, when the transfer breaks.

    So too when a file is not there (403, 404, 410): until Replicate says that it has removed it, or its hour is over.
    Each time it is looked for by the URLs that the prediction has then.
    """
    looks = 0
    while True:
        try:
            saved = await _download_in_time(work, prediction, staging, unsaved.kept_until)
        except BrokenDownload as error:
            work.masking.mask_error(error)
            if not keep_trying or time.time() > unsaved.kept_until:
                raise
            unsaved.breaking, unsaved.absent = True, False
            logger.warning(
                "! %s: cannot be downloaded, retrying: %s", work.name, error, extra={"event": "download_retried"}
            )
        except OutputGone as error:
            work.masking.mask_error(error)
            if looks and (not keep_trying or time.time() > unsaved.kept_until):
                raise
            unsaved.absent, looks = True, looks + 1
            await _wait_for_file(work, error, looks, unsaved.kept_until)
            prediction = await _look_again(work, prediction, unsaved.kept_until if keep_trying else 0.0)
        else:
            _warn_of_unsaved(work, saved)
            return prediction, saved


async def _wait_for_file(work: Work, error: OutputGone, looks: int, kept_until: float) -> None:
    left = max(kept_until - time.time(), ABSENT.base)
    if looks == 1:
        logger.warning("! %s: %s; retrying for %.0f min", work.name, error, left / 60, extra={"event": "file_absent"})
    with work.worker.waits.on(work.name, "file", str(error)):
        await asyncio.sleep(min(ABSENT.delay(looks, work.worker.timing.jitter), left))


async def _download_in_time(work: Work, prediction: Prediction, staging: Staging, kept_until: float) -> SavedOutput:
    """Download once, however long the host goes on sending."""
    late = work.worker.timing.late
    try:
        async with asyncio.timeout(max(kept_until - time.time(), 0.0) + late):
            return await work.worker.outputs.save(staging, prediction.output, kept_until, work.masking)
    except TimeoutError as error:
        raise BrokenDownload(f"{work.name}: not whole {late:.0f} s after its hour", work.name) from error


def _warn_of_unsaved(work: Work, saved: SavedOutput) -> None:
    if saved.unsaved:
        more = f" and {len(saved.unsaved) - 1} more" if len(saved.unsaved) > 1 else ""
        logger.warning(
            "! %s: not fetched, since BATCH_OUTPUT_HOSTS does not name its host, or it is no URL: %s%s",
            work.name,
            work.masking.mask(saved.unsaved[0])[:200],
            more,
        )


async def _look_again(work: Work, prediction: Prediction, until: float) -> Prediction:
    """The prediction as Replicate has it now, asked until it answers; OutputGone when it has removed the output."""
    tries = 0
    while True:
        try:
            async with work.worker.gate.request("read"):
                found = work.mask(await work.worker.replicate.get(prediction.id))
        except ReplicateError as error:
            logger.info("%s: cannot be looked up again: %s", work.name, error)
            if isinstance(error, NotFound) or time.time() > until:
                return prediction
            tries += 1
            await asyncio.sleep(SOON.delay(tries, work.worker.timing.jitter))
        else:
            if found.data_removed:
                raise OutputGone("Replicate has removed the output already", work.name)
            return found if found.status == "succeeded" else prediction


async def commit_failure(
    work: Work, entry: Entry, failure: Failure, prediction: Prediction | None = None, outcome: Outcome = "failed"
) -> Result:
    """Commit the result of a prompt that has no output; a create that was never answered may have been paid."""
    if entry.ambiguous:
        entry = await work.ledger.close(entry, entry.reserved, "unknown")
    result = _result(work, entry, prediction, status=outcome, error=failure)

    async def commit_in(staging: Staging) -> Result:
        return await _commit(work, staging, result, prediction.raw if prediction else None)

    return await _until_committed(work, commit_in)


async def _until_committed(work: Work, act: Callable[[Staging], Awaitable[Result]]) -> Result:
    """Act in a new staging folder until the disk takes it; meanwhile nobody creates predictions for the batch."""
    folders, path, tries = work.worker.folders, work.folder.path, 0
    staging_of = work.worker.outputs.storage.staging
    with folders.saving(path):
        while True:
            try:
                async with folders.probe(path), staging_of(work.folder, work.prompt.id, work.shard.batch_id) as staging:
                    result = await act(staging)
                    folders.succeeded(path)
                    return result
            except StorageError as error:
                if found := await asyncio.to_thread(try_read_record, work):
                    return found
                tries += 1
                logger.warning("! %s: cannot be saved, retrying: %s", work.name, error, extra={"event": "save_retried"})
                if not isinstance(error, ForeignFolder):  # a folder in one prompt's way is no trouble of the disk
                    alone = is_of_one_folder(error)
                    folders.failed(path, str(error), alone=alone)
                    if not alone:
                        await work.worker.account.report_trouble(str(error), work.worker.timing.hold)
            await asyncio.sleep(DISK.delay(tries, work.worker.timing.jitter))


async def _commit(work: Work, staging: Staging, result: Result, raw: Any) -> Result:
    """Commit a staging folder with its result; when somebody committed first, theirs is the result.

    Overtaken when the shard's lease may be another worker's by now: it may be making the next attempt.
    """
    result, raw = _mask(work, result, raw)
    record = encode_record(result, raw)
    work.check_lease()
    if await staging.commit(record):
        return result
    theirs = await asyncio.to_thread(read_record, work)
    if theirs is None:
        target = work.folder.prompt(work.prompt.id)
        raise StorageError(f"{target} could not take its record", target)
    logger.info("%s: another worker committed first", work.name)
    return theirs


def _mask(work: Work, result: Result, raw: Any) -> tuple[Result, Any]:
    """A result and its prediction without the prompt's secrets; what its row says itself stays as the row has it."""
    if not secret_keys(work.prompt.input):
        return result, raw
    mask = work.masking.mask
    update: dict[str, Any] = {name: mask(getattr(result, name)) for name in ("output", "unsaved", "metrics")}
    update["files"] = tuple(
        file.model_copy(update={name: mask(getattr(file, name)) for name in ("url", "content_type", "warning")})
        for file in result.files
    )
    if result.error:
        update["error"] = result.error.model_copy(update={"message": mask(result.error.message)})
    return result.model_copy(update=update), work.masking.mask_prediction(raw) if raw else raw


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
        input=shown_input(work.prompt.input),
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
