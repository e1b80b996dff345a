"""A batch's folder on disk: its names, its own copy of the prompts, its records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from jobs.errors import DamagedRecord, ForeignFolder, StorageError
from jobs.models import Prompt, Result

OWN_NAMES = re.compile(r"(batch\.json|(prompts|results|errors)\.jsonl|index(-\d+)?\.html)", re.IGNORECASE)
"""The batch's own files: no prompt may have such an id."""


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
        return self.path / ".saving" / f"{prompt_id}.{nonce}"

    def batch_id(self) -> str | None:
        """The random id in batch.json, None when there is no such file; ForeignFolder when it is not readable."""
        try:
            return str(json.loads(self.identity.read_bytes())["id"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ForeignFolder(f"{self.identity} cannot be read as a batch's: {error}", self.identity) from error

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
