"""A batch's folder: each prompt has exactly the files that its record names, and nothing else is there."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from jobs.batch_folder.atomic_files import part_files
from jobs.batch_folder.folder import RECORD, SAVING, Folder
from jobs.batch_folder.gallery import PAGE_SIZE, page_name
from jobs.batch_folder.name_hashes import NameHashes
from jobs.batch_folder.rows.segment import unfinished_segments
from jobs.input_files.copies import COPIES
from jobs.wire import Result, SavedFile

PIECE = 1 << 20
_OF_THE_SYSTEM = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""What file browsers leave behind."""


def file_faults(directory: str, record: Result, *, read: bool) -> Iterator[str]:
    """Yield what is wrong with the files of a prompt's folder; with `read` their bytes are compared too."""
    for file in record.files:
        name = _name(directory, file)
        if name is None:
            yield f"its record names a file outside of its folder: {file.path}"
        elif fault := _file_fault(f"{directory}/{name}", file, read=read):
            yield f"{name} {fault}"
    document = _document(directory, record)
    if document and (fault := _document_fault(Path(directory, document), record.output, read=read)):
        yield f"{document} {fault}"


def unnamed_files(directory: str, record: Result | None) -> Iterator[str]:
    """Yield the files that a prompt's record does not name, or that there are files without a record."""
    try:
        there = set(os.listdir(directory)) - _OF_THE_SYSTEM  # noqa: PTH208 - names only, of a million folders
    except FileNotFoundError:
        return
    except OSError as error:
        yield f"its folder cannot be read: {error.strerror or error}"
        return
    if record is None:
        yield from ["its folder has files, but no record"] if there else []
        return
    named = {RECORD, _document(directory, record), *(_name(directory, file) for file in record.files)}
    yield from (f"{name} is a file that its record does not name" for name in sorted(there - named))


def foreign_folders(folder: Folder, ids: NameHashes) -> Iterator[str]:
    """Yield the folders that belong to no row of the batch."""
    with os.scandir(folder.path) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.name.lower() not in ids and entry.is_dir(follow_symlinks=False):
                yield f"the folder {entry.name} belongs to no prompt of prompts.jsonl"


def unfinished_files(folder: Folder) -> Iterator[str]:
    """Yield the files that were still being written when a batch finished."""
    saving = folder.path / SAVING
    if saving.is_dir():
        count = sum(1 for _ in saving.iterdir())
        yield f"{SAVING} is there, with {count} folder{'' if count == 1 else 's'} that were never committed"
    yield from (f"{name} was never written to its end" for name in part_files(folder.path))
    yield from (f"{path} was never written to its end" for path in unfinished_segments(folder))
    copies = folder.path / COPIES
    for name in part_files(copies) if copies.is_dir() else ():
        yield f"{COPIES}/{name} was never written to its end"


def missing_pages(folder: Folder, prompts: int) -> Iterator[str]:
    """Yield the pages of the gallery that are missing."""
    for page in range(1, max(1, -(-prompts // PAGE_SIZE)) + 1):
        if not (folder.path / page_name(page)).is_file():
            yield f"the gallery's {page_name(page)} is missing"


def _name(directory: str, file: SavedFile) -> str | None:
    """A file's name, None when it is not directly in the prompt's folder."""
    prompt_id = directory.rpartition("/")[2]
    before, _, name = file.path.rpartition("/")
    if before == prompt_id and name not in ("", ".", ".."):  # as almost all are: a path takes longer
        return name
    path = PurePosixPath(file.path)
    return path.name if path.parts == (prompt_id, path.name) else None


def _file_fault(path: str, file: SavedFile, *, read: bool) -> str | None:
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            return "is not a file"
        if found.st_size != file.bytes:
            return f"has {found.st_size} bytes instead of {file.bytes}"
        if read and _sha256(path) != file.sha256:
            return "has other bytes than were saved: its sha256 is not the record's"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return None


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _document(directory: str, record: Result) -> str | None:
    """The name of the file that holds the part of an output that is no file, if there must or may be one."""
    output = record.output
    if record.status != "succeeded" or output is None:
        return None
    leaves = list(_leaves(output))
    if record.files and len(leaves) == len(record.files):
        return None
    there = [name for name in ("output.txt", "output.json") if Path(directory, name).exists()]
    texts = not record.files and bool(leaves) and all(isinstance(leaf, str) for leaf in leaves)
    if texts and all(leaf.startswith(("https:", "http:", "data:")) for leaf in leaves):
        return there[0] if there else None  # files, unless their host is not allowed, which only a worker knows
    plain = isinstance(output, str) or (isinstance(output, list) and all(isinstance(part, str) for part in output))
    return "output.txt" if texts and plain and there != ["output.json"] else "output.json"


def _document_fault(path: Path, output: Any, *, read: bool) -> str | None:
    if not read:
        return None if path.is_file() else "is missing"
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        return "is missing"
    except (OSError, ValueError) as error:
        return f"cannot be read: {error}"
    # In a record, half a surrogate pair is a question mark, which may differ from the file.
    unsure = "?" in json.dumps(output, ensure_ascii=False)
    return None if unsure or _says(path.suffix, text, output) else "does not say what the record says"


def _says(suffix: str, text: str, output: Any) -> bool:
    if suffix == ".txt":
        return text == (output if isinstance(output, str) else "".join(output))
    try:
        return bool(json.loads(text) == output)
    except (ValueError, RecursionError):
        return False


def _leaves(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value
        else:
            yield value
