"""Dataset folders as Hugging Face has them: a table of metadata beside the files that its `file_name`s name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs.errors import InputError
from jobs.input_files.path_texts import is_url, may_name_file
from jobs.prompts_file.columns import BESIDE_INPUT
from jobs.prompts_file.file_ids import FileIds

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")

FILE_NAME = "file_name"


def metadata_of(source: str) -> str:
    """The file with the rows: the source itself, or the one in a dataset folder; InputError."""
    folder = Path(source)
    if source == "-" or not folder.is_dir():
        return source
    found = [folder / name for name in METADATA if (folder / name).is_file()]
    if not found:
        raise InputError(
            f"{source} is a directory, and no dataset: it has neither {', nor '.join(METADATA)}; "
            f"--each-file {source} makes a row of each of its files"
        )
    if len(found) > 1:
        raise InputError(f"{source} has {' and '.join(path.name for path in found)}; name the one that is meant")
    return str(found[0])


def home_of(source: str) -> Path:
    """Where the files lie that rows name: beside the prompts file, or in the current folder."""
    path = Path(source)
    return path if source != "-" and path.is_dir() else path.parent


def name_by_file(row: Any, key: str, ids: FileIds) -> Any:
    """A row of a dataset with an id after its file, whose name is in the input `key`.

    It is the path of a file if the column was renamed, else it is not sent: the model could not read it.
    """
    values = row.get("input", row) if isinstance(row, dict) and key not in BESIDE_INPUT else None
    if not isinstance(values, dict) or not isinstance(name := values.get(key), str):
        return row
    rest = {other: value for other, value in values.items() if other != key}
    if key != FILE_NAME:
        rest[key] = name if is_url(name) or not may_name_file(f"input.{key}", f"@{name}") else f"@{name}"
    row = row | {"input": rest} if "input" in row else rest
    has_id = "id" in row or "custom_id" in row or not Path(name).name
    return row if has_id else row | {"id": ids.take(name)}
