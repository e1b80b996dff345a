"""A batch's folder on disk: its names, its own copy of the prompts, its records."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from jobs.errors import DamagedRecord, ForeignFolder, LostFolder, StorageError
from jobs.models import Prompt, Result

OWN_NAMES = re.compile(r"(batch\.json|(prompts|results|errors)\.jsonl|index(-\d+)?\.html)", re.IGNORECASE)
"""The batch's own files: no prompt may have such an id."""

RETRIED = ".retried"
"""Where in a batch's folder the records of earlier tries lie: `<id>.<generation>`."""

SAVING = ".saving"
"""Where in a batch's folder files are written before they are committed: `<id>.<nonce>`."""


@dataclass(frozen=True, slots=True)
class Folder:
    """`OUTPUT_DIR/<batch>`: where everything of a batch lies."""

    output_dir: Path
    batch: str

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.output_dir / self.batch

    @property
    def identity(self) -> Path:
        """batch.json: `{batch, id, created_at}`; its random id ties the folder to Redis."""
        return self.path / "batch.json"

    @property
    def prompts(self) -> Path:
        """prompts.jsonl: the batch's own copy; a row's place in it is its index for ever."""
        return self.path / "prompts.jsonl"

    @property
    def results(self) -> Path:
        """results.jsonl: every prompt's result, in file order."""
        return self.path / "results.jsonl"

    @property
    def errors(self) -> Path:
        """errors.jsonl: the results that are not succeeded."""
        return self.path / "errors.jsonl"

    @property
    def gallery(self) -> Path:
        """index.html: the first page of the gallery; the next ones are index-2.html …"""
        return self.path / "index.html"

    def prompt(self, prompt_id: str) -> Path:
        """Where a settled prompt's record and files lie; the folder appears whole or not at all."""
        return self.path / prompt_id

    def saving(self, prompt_id: str, nonce: str) -> Path:
        """Where a prompt's files are written before they are committed."""
        return self.path / SAVING / f"{prompt_id}.{nonce}"

    def batch_id(self) -> str | None:
        """The random id in batch.json, None when there is no such file; ForeignFolder when it is not readable."""
        try:
            return str(json.loads(self.identity.read_bytes())["id"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ForeignFolder(f"{self.identity} cannot be read as a batch's: {error}", self.identity) from error

    @contextmanager
    def opened(self, batch_id: str | None) -> Iterator[int]:
        """Open the folder itself, which must be of the batch with that random id (None: of any); LostFolder.

        What is made or renamed relative to the descriptor lands in it or nowhere, also when somebody moves it.
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
        def opener(name: str, flags: int) -> int:
            return os.open(name, flags, dir_fd=descriptor)

        try:
            with open(self.identity.name, "rb", opener=opener) as file:
                found = json.load(file)["id"]
        except OSError as error:
            raise self._lost(error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise LostFolder(f"{self.identity} cannot be read as a batch's: {error}", self.identity) from error
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

    def read_prompts(self) -> Iterator[Prompt]:
        """Yield the prompts of the own copy, in order; nothing when there is none."""
        if not self.prompts.exists():
            return
        with self.prompts.open(encoding="utf-8", errors="surrogatepass") as lines:
            for index, line in enumerate(lines):
                try:
                    row = json.loads(line)
                    yield Prompt(index, row["id"], row["model"], row["input"], row.get("generation", 0))
                except (ValueError, KeyError, TypeError) as error:
                    message = f"{self.prompts}, line {index + 1}, is not as it was written; restore the file"
                    raise StorageError(message, self.prompts) from error

    def read_record(self, prompt_id: str) -> Result | None:
        """A settled prompt's result; None when it has none yet. DamagedRecord, or StorageError if it cannot be read."""
        path = self.prompt(prompt_id) / "prediction.json"
        try:
            return Result.model_validate(json.loads(path.read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error}", path) from error
        except ValidationError as error:
            raise DamagedRecord(f"{path} is no record: {error.errors()[0]['msg']}", path) from error
        except (ValueError, RecursionError) as error:
            raise DamagedRecord(f"{path} is no record: {error}", path) from error
