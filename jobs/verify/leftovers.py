"""What lies in a batch's folder and should not, or does not and should."""

from __future__ import annotations

import os
from collections.abc import Iterator

from jobs.batch_folder.atomic_files import PART
from jobs.batch_folder.folder import SAVING, Folder
from jobs.batch_folder.gallery import PAGE_SIZE, page_name
from jobs.batch_folder.name_hashes import NameHashes


def parts(folder: Folder) -> list[str]:
    """Names of files that were never written to their end; of a million entries none but these is kept in memory."""
    with os.scandir(folder.path) as entries:
        return sorted(entry.name for entry in entries if entry.name.startswith(".") and entry.name.endswith(PART))


def strangers(folder: Folder, ids: NameHashes) -> Iterator[str]:
    """Folders that no row of the batch names."""
    with os.scandir(folder.path) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.name.lower() not in ids and entry.is_dir(follow_symlinks=False):
                yield f"the folder {entry.name} is of no prompt of prompts.jsonl"


def unfinished_business(folder: Folder) -> Iterator[str]:
    """What a finished batch has no more: files that were being written."""
    saving = folder.path / SAVING
    if saving.is_dir():
        count = sum(1 for _ in saving.iterdir())
        yield f"{SAVING} is there, with {count} folder{'' if count == 1 else 's'} that became no prompt's"
    yield from (f"{name} was never written to its end" for name in parts(folder))


def missing_pages(folder: Folder, prompts: int) -> Iterator[str]:
    """Pages of the gallery that are not there."""
    for page in range(1, max(1, -(-prompts // PAGE_SIZE)) + 1):
        if not (folder.path / page_name(page)).is_file():
            yield f"the gallery's {page_name(page)} is missing"
