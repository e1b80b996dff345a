"""A batch's folder on disk: its names, its own copy of the prompts, its records."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from jobs.errors import DamagedRecord, ForeignFolder, LostFolder, StorageError
from jobs.wire import Result

MANIFEST = "batch.json"

MODELS = "models.json"

RECORD = "prediction.json"
"""In a prompt's folder: its result."""

LOCK = ".lock"
"""What producers and workers lock while they write the batch's own files."""

RETRIED = ".retried"
"""Where in a batch's folder the records of earlier tries are: `<id>.<generation>`."""

SEGMENTS = ".segments"
"""Where in a batch's folder the rows of its shards are kept for the end of the batch; it may be deleted at any time."""

SAVING = ".saving"
"""Where in a batch's folder files are written before they are committed: `<id>.<nonce>`."""


_SETTLED = 2.0
"""Seconds after which a change of a file shows in its times, on any file system."""

_MOST = 1000
_known_ids: dict[tuple[int, ...], str] = {}
"""Ids in manifests, by what changes with the file: each prompt reads its manifest several times."""


@dataclass(frozen=True, slots=True)
class Folder:
    """`OUTPUT_DIR/<batch>`: all files of a batch."""

    output_dir: Path
    batch: str

    path: Path = field(init=False, repr=False, compare=False)
    """The folder itself."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", self.output_dir / self.batch)

    @property
    def manifest(self) -> Path:
        """batch.json: `{batch, id, created_at}`; its random id ties the folder to Redis."""
        return self.path / MANIFEST

    @property
    def prompts(self) -> Path:
        """prompts.jsonl: the batch's own copy; a row's place in it is its index for ever."""
        return self.path / "prompts.jsonl"

    @property
    def models(self) -> Path:
        """models.json: what the batch's models were when it was enqueued; a batch that was not checked has none."""
        return self.path / MODELS

    @property
    def results(self) -> Path:
        """results.jsonl: every prompt's result, in file order."""
        return self.path / "results.jsonl"

    @property
    def errors(self) -> Path:
        """errors.jsonl: the results that are not succeeded."""
        return self.path / "errors.jsonl"

    @property
    def reviews(self) -> Path:
        """review.jsonl: what people think of results; a batch that nobody has reviewed has none."""
        return self.path / "review.jsonl"

    @property
    def events(self) -> Path:
        """.events.jsonl: what happened to the batch until it was finished; Redis forgets it."""
        return self.path / ".events.jsonl"

    @property
    def gallery(self) -> Path:
        """index.html: the first page of the gallery; the next ones are index-2.html …"""
        return self.path / "index.html"

    def prompt(self, prompt_id: str) -> Path:
        """Where a settled prompt's record and files are; the folder appears whole or not at all."""
        return self.path / prompt_id

    def saving(self, prompt_id: str, nonce: str) -> Path:
        """Where a prompt's files are written before they are committed."""
        return self.path / SAVING / f"{prompt_id}.{nonce}"

    def batch_id(self) -> str | None:
        """The random id in batch.json, None when there is no such file; ForeignFolder when it is not readable."""
        try:
            return str(json.loads(self.manifest.read_bytes())["id"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ForeignFolder(f"{self.manifest} cannot be read as a batch's: {error}", self.manifest) from error

    @contextmanager
    def opened(self, batch_id: str | None) -> Iterator[int]:
        """Open the folder itself, which must be of the batch with that random id (None: of any); LostFolder.

        What is created or renamed relative to the descriptor ends up in it or nowhere, even when somebody moves it.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise self._lost(error) from error
        try:
            if batch_id is not None:
                self._check(descriptor, batch_id)
            yield descriptor
        finally:
            os.close(descriptor)

    def check(self, batch_id: str) -> None:
        """Raise LostFolder unless the folder is there and of the batch with that random id."""
        with self.opened(batch_id):
            return

    def _check(self, descriptor: int, batch_id: str) -> None:
        try:
            found = _read_id(descriptor)
        except OSError as error:
            raise self._lost(error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise LostFolder(f"{self.manifest} cannot be read as a batch's: {error}", self.manifest) from error
        if found != batch_id:
            raise LostFolder(
                f"{self.path.absolute()} is another batch's folder now: put the one of {self.batch!r} back, or end the "
                f"batch: python -m jobs delete {self.batch} --force",
                self.path,
            )

    def _lost(self, error: OSError) -> LostFolder:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return LostFolder(
                f"the folder of {self.batch!r} is gone: put {self.path.absolute()} back, or end the batch: "
                f"python -m jobs delete {self.batch} --force",
                self.path,
            )
        return LostFolder(f"{self.path.absolute()} cannot be read: {error.strerror or error}", self.path)

    def read_record(self, prompt_id: str) -> Result | None:
        """A settled prompt's result; None when it has none yet. DamagedRecord, or StorageError if it cannot be read."""
        path = f"{self.output_dir}/{self.batch}/{prompt_id}/{RECORD}"
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a million paths are parsed in 10 s
                return _parse_record(file.read())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error}", Path(path)) from error
        except ValidationError as error:
            raise DamagedRecord(f"{path} is no record: {error.errors()[0]['msg']}", Path(path)) from error
        except (ValueError, RecursionError) as error:
            raise DamagedRecord(f"{path} is no record: {error}", Path(path)) from error

    def last_record(self, prompt_id: str, generation: int) -> Result | None:
        """A prompt's result, or the one before that `retry` moved aside; None when neither can be read."""
        moved = (f"{RETRIED}/{prompt_id}.{earlier}" for earlier in range(generation, -1, -1))
        for place in (prompt_id, *moved):
            with suppress(StorageError):
                if record := self.read_record(place):
                    return record
        return None


def _parse_record(text: bytes) -> Result:
    try:
        return Result.model_validate_json(text)
    except ValidationError:  # deeper than it reads, with half of a surrogate pair, or no record
        return Result.model_validate(json.loads(text))


def _read_id(folder: int) -> str:
    """The random id in the manifest of an open folder; the file is read only when it is not as it was."""
    if known := _known_ids.get(_mark(os.stat(MANIFEST, dir_fd=folder))):
        return known

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, dir_fd=folder)

    with open(MANIFEST, "rb", opener=opener) as file:
        seen, found = os.fstat(file.fileno()), str(json.load(file)["id"])
    if len(_known_ids) >= _MOST:
        _known_ids.clear()
    if time.time() - seen.st_ctime > _SETTLED:
        _known_ids[_mark(seen)] = found
    return found


def _mark(file: os.stat_result) -> tuple[int, ...]:
    return file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns
