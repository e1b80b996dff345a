"""Segments: the rows of a shard in one file, so that the end of a batch need not read every record again.

Nobody depends on one: a segment that is missing, cut, foreign or of another version is no segment, and a row that does
not hold any more is built anew from its record. So they are written without fsync.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields
from functools import cache

import orjson

from jobs.batch_folder.atomic_files import PART, part_files
from jobs.batch_folder.folder import SEGMENTS, Folder
from jobs.batch_folder.rows.item_html import item_source
from jobs.batch_folder.rows.row import Row, build_row, digest_of, is_current
from jobs.batch_folder.rows.totals import Totals
from jobs.wire import Result, SavedFile, Shard

FORMAT = 1
"""To be raised when rows of the same records become others: when lines, items or totals are made in another way."""


def keep_shard(folder: Folder, shard: Shard) -> None:
    """Bring the segment of a shard up to date with its prompts' records; StorageError, OSError."""
    with folder.opened(shard.batch_id) as directory:
        rows = read_segment(directory, shard.batch_id, shard.number)
        is_whole = True
        for prompt in shard.prompts:
            digest, row = digest_of(prompt), rows.get(prompt.index)
            if row is None or row.digest != digest or not is_current(row, directory, strict=False):
                rows[prompt.index] = build_row(folder, directory, prompt, digest, with_html=True)
                is_whole = False
        if not is_whole:
            write_segment(directory, shard.batch_id, shard.number, rows.values())


def read_segment(directory: int, batch_id: str, number: int) -> dict[int, Row]:
    """The rows in the segment of a shard by index, which may be outdated; none if it is not whole, or another's."""
    try:
        found = orjson.loads(zlib.decompress(_read(directory, segment_path(number))))
        if found[:3] != [_version(), batch_id, number]:
            return {}
        return {values[0]: Row(*values) for values in found[3]}
    except (OSError, ValueError, TypeError, LookupError, zlib.error):
        return {}


def write_segment(directory: int, batch_id: str, number: int, rows: Iterable[Row]) -> None:
    """Write the segment of a shard, which replaces the former one at once; OSError."""
    kept = [tuple(row) for row in rows if row.marks]
    content = zlib.compress(orjson.dumps([_version(), batch_id, number, kept]), 1)
    part = f"{SEGMENTS}/.{number}.{secrets.token_hex(4)}{PART}"
    with suppress(FileExistsError):
        os.mkdir(SEGMENTS, dir_fd=directory)
    try:
        _write(directory, part, content)
        move_segment(directory, part, segment_path(number))
    except OSError:
        with suppress(OSError):
            os.unlink(part, dir_fd=directory)
        raise


def move_segment(directory: int, part: str, path: str) -> None:
    """Give a written segment its name."""
    os.rename(part, path, src_dir_fd=directory, dst_dir_fd=directory)


def segment_path(number: int) -> str:
    """Where a shard's segment is in its batch's folder."""
    return f"{SEGMENTS}/{number}"


def unfinished_segments(folder: Folder) -> list[str]:
    """The paths, in the batch's folder, of segments that were never written to their end."""
    try:
        return [f"{SEGMENTS}/{name}" for name in part_files(folder.path / SEGMENTS)]
    except FileNotFoundError:
        return []


@cache
def _version() -> str:
    """What must be the same for rows to be the same: segments of another version are not read."""
    shapes: list[Mapping[str, object]] = [Result.model_fields, SavedFile.model_fields]
    names = [Row._fields, [field.name for field in fields(Totals)], *(list(shape) for shape in shapes)]
    return hashlib.blake2b(repr((FORMAT, names, item_source())).encode(), digest_size=8).hexdigest()


def _read(directory: int, path: str) -> bytes:
    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, dir_fd=directory)

    with open(path, "rb", buffering=0, opener=opener) as file:
        return file.read()


def _write(directory: int, path: str, content: bytes) -> None:
    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, 0o666, dir_fd=directory)

    with open(path, "xb", buffering=0, opener=opener) as file:
        left = memoryview(content)
        while left:
            left = left[file.write(left) :]
