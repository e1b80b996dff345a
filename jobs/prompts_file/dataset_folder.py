"""Dataset folders as Hugging Face has them: a table of metadata beside the files that its `file_name`s name."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from jobs.errors import InputError
from jobs.expansion.variant_ids import slug

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")

FILE_NAME = "file_name"


def metadata_of(source: str) -> str:
    """The file with the rows: the source itself, or the one in a dataset folder; InputError."""
    folder = Path(source)
    if source == "-" or not folder.is_dir():
        return source
    found = [folder / name for name in METADATA if (folder / name).is_file()]
    if not found:
        raise InputError(f"{source} is a directory, and no dataset: it has neither {', nor '.join(METADATA)}")
    if len(found) > 1:
        raise InputError(f"{source} has {' and '.join(path.name for path in found)}; name the one that is meant")
    return str(found[0])


def home_of(source: str) -> Path:
    """Where the files lie that rows name: beside the prompts file, or in the current folder."""
    path = Path(source)
    return path if source != "-" and path.is_dir() else path.parent


def name_by_file(row: Any) -> Any:
    """A row of a dataset with an id after its file, which is not sent: the model could not read it."""
    values = row.get("input", row) if isinstance(row, dict) else None
    if not isinstance(values, dict) or not isinstance(name := values.get(FILE_NAME), str):
        return row
    rest = {key: value for key, value in values.items() if key != FILE_NAME}
    row = row | {"input": rest} if "input" in row else rest
    stem = PurePosixPath(name.replace("\\", "/")).with_suffix("") if PurePosixPath(name).name else None
    return row if stem is None or "id" in row or "custom_id" in row else row | {"id": slug(str(stem))}
