"""A prediction's output on disk: every file of it at once, whatever its shape."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from jobs.config import Config
from jobs.errors import StorageError
from jobs.secret_inputs import NO_SECRETS, Masking
from jobs.wire import SavedFile
from worker.limits.priority_semaphore import PrioritySemaphore
from worker.outputs.allowed_urls import is_output, looks_like_file
from worker.outputs.backlog import Backlog
from worker.outputs.download import Download, Timing
from worker.outputs.file_output import FileOutput
from worker.outputs.file_writer import FileWriter
from worker.outputs.shape import OutputFile, document, files_in, other_texts, replaced, without
from worker.outputs.staging import Staging, Storage
from worker.telemetry.steps import step


@dataclass(frozen=True, slots=True)
class SavedOutput:
    """An output with every file replaced by its path, and the files; paths are relative to the batch's folder.

    `unsaved` are URLs that look like files, and were not fetched.
    """

    output: Any
    files: tuple[SavedFile, ...]
    unsaved: tuple[str, ...]
    _paths_of_data: Mapping[str, str]

    def without_data(self, value: Any) -> Any:
        """Return any JSON value, such as the prediction as received, with the saved `data:` URIs replaced by paths."""
        return without(value, self._paths_of_data) if self._paths_of_data else value


class OutputSaver:
    """Saves outputs, MAX_DOWNLOADS files at a time; `storage` is where they are committed, `backlog` what waits."""

    def __init__(self, config: Config, client: httpx.AsyncClient, timing: Timing | None = None) -> None:
        self.storage = Storage(fsync=config.fsync)
        self._config = config
        self._client = client
        self._slots = PrioritySemaphore(config.max_downloads)
        self.backlog = Backlog(self._slots)
        self._timing = timing or Timing()

    @property
    def downloads(self) -> int:
        """How many files are being downloaded."""
        return self._slots.size - self._slots.free

    async def save(
        self, staging: Staging, output: Any, kept_until: float = math.inf, masking: Masking = NO_SECRETS
    ) -> SavedOutput:
        """Write an output into its prompt's staging folder; of those that wait, the lowest `kept_until` is next.

        That is in Unix seconds. `masking` takes secrets out of texts and logs. Raises OutputError when a file cannot
        be had (a broken transfer was repeated by then), StorageError.
        """
        found = files_in(output, lambda value: is_output(value, self._config.output_hosts))
        wanted = found if self._config.use_file_output else []
        files = await _all([self._fetch(staging, file, kept_until, masking) for file in wanted])
        paths = {file.place: saved.path for file, saved in zip(found, files, strict=False)}
        value = replaced(output, paths)
        if rest := document(masking.mask(output), len(found), masking.mask(value)):
            await staging.write(rest.name, rest.content)
        data = {
            file.url: paths[file.place] for file in found if file.place in paths and file.url[:5].lower() == "data:"
        }
        left = other_texts(output, wanted) if self._config.use_file_output else []
        return SavedOutput(value, tuple(files), tuple(filter(looks_like_file, left)), data)

    @step("download")
    async def _fetch(self, staging: Staging, found: OutputFile, kept_until: float, masking: Masking) -> SavedFile:
        file = FileOutput(found.url, self._client, hosts=self._config.output_hosts, slow_after=self._timing.slow_after)
        turn = self._slots.turn(kept_until)
        async with FileWriter(staging, found.stem) as writer:
            download = Download(file, writer, self._config.max_file_bytes, turn, kept_until, masking)
            fetched = await download.run(self._wait)
        return SavedFile(
            path=f"{staging.prompt_id}/{fetched.written.path.name}",
            url=file.address,
            bytes=fetched.written.bytes,
            sha256=fetched.written.sha256,
            content_type=file.content_type,
            checked=fetched.checked,
            warning=fetched.warning,
        )

    async def _wait(self, failures: int) -> None:
        await asyncio.sleep(self._timing.pause(failures))


async def _all(fetches: Sequence[Coroutine[Any, Any, SavedFile]]) -> list[SavedFile]:
    """Fetch all files at once; when one fails, the others are cancelled."""
    if len(fetches) == 1:
        return [await fetches[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(fetch) for fetch in fetches]
    except ExceptionGroup as errors:
        failed = _worst(errors.exceptions)
    else:
        return [task.result() for task in tasks]
    raise failed


def _worst(errors: Sequence[Exception]) -> Exception:
    """Of several failures at once the disk's: it concerns every file."""
    return next((error for error in errors if isinstance(error, StorageError)), errors[0])
