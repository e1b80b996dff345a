"""`--each-file`: a row for each file that a pattern names, with an id after the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import Problem
from jobs.input_files.file_pattern import FilePattern
from jobs.prompts_file.file_ids import FileIds
from jobs.prompts_file.formats import Record
from jobs.text import printable


@dataclass(frozen=True)
class FileRows:
    """The files of a pattern; `key` is the input that they are, None: the only one that takes a file."""

    pattern: str
    key: str | None = None

    unit = "file"

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.pattern

    @property
    def origin(self) -> str:
        """What the batch keeps of where its rows came from."""
        return str(Path(self.pattern).expanduser().absolute())

    @property
    def batch(self) -> str:
        """What a batch of it is called: after the folder."""
        return FilePattern(self.pattern).folder.name

    def records(self, key: str, _output_dir: Path, notes: list[str]) -> Iterator[Record]:
        """Yield a row for each file; what is left out is noted. InputError when there is none."""
        ids = FileIds()
        for number, (path, name) in enumerate(FilePattern(self.pattern).files(notes), 1):
            yield Record(number, number, _row(ids, key, path, name) or Problem(number, _not_utf8(name)))


def _row(ids: FileIds, key: str, path: str, name: str) -> dict[str, object] | None:
    try:
        path.encode()
    except UnicodeEncodeError:
        return None
    return {"id": ids.take(name), "input": {key: f"@{path}"}}


def _not_utf8(name: str) -> str:
    return f"the name {printable(name)!r} is not UTF-8: rename the file"
