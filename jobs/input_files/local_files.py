"""Finds the local files that inputs name, checks that they can be uploaded, and hashes each once."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import unicodedata
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePath
from typing import NamedTuple

from jobs.input_files.path_texts import bare_path, begins_with_host, is_of_windows, shown_path, spellings
from jobs.input_files.reference import FileReference

MAX_BYTES = 100_000_000
"""The largest file that Replicate's API takes."""

REMEMBERED = 100_000
"""Files whose hashes are kept, so that each is read once."""

MOST_NAMES = 10_000
"""Names of a folder among which the meant one is looked for."""

MOST_SUGGESTED = 100
"""Missing files for which a name is suggested: each is compared with all names of its folder."""

NEAR = 0.82
"""How similar the name of a missing file and a name that is there must be for a suggestion."""

_POINTER = b"version https://git-lfs.github.com/spec/"

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
_KINDS = {
    stat.S_IFDIR: "a directory, not a file",
    stat.S_IFIFO: "a named pipe, not a file",
    stat.S_IFSOCK: "a socket, not a file",
    stat.S_IFCHR: "a device, not a file",
    stat.S_IFBLK: "a device, not a file",
}


class UnfitFile(NamedTuple):
    """Why a file cannot be an input: `kind` in a word, `reason` as the end of "'image' names …"."""

    kind: str
    reason: str


FindCopied = Callable[[Path], FileReference | None]


def find_none(_: Path) -> None:
    """There are no copies."""


class LocalFiles:
    """The files that paths in inputs name; relative ones count from `home`.

    `find_copied` finds the copy of a file that is not there any more.
    """

    def __init__(self, home: Path, find_copied: FindCopied = find_none) -> None:
        self._home, self._find_copied, self._missing = home, find_copied, 0
        self.find = lru_cache(REMEMBERED)(self._find)
        self._folder = lru_cache(REMEMBERED)(os.path.realpath)
        self._names = lru_cache(64)(_names)

    def _find(self, text: str) -> FileReference | UnfitFile:
        """The file that a text names, or why there is none; it is read on the first call only."""
        try:
            if (path := self.locate(text)) is None:
                return self._copied(text) or UnfitFile("missing", self._explain_missing(text))
            if not _is_utf_8(path):
                return UnfitFile("name", f"{shown_path(path)}, which is not UTF-8: rename the folder")
            return _examine(path)
        except OSError as error:
            reason = f"{shown_path(self._place(text))}, which cannot be read: {error.strerror or error}"
            return UnfitFile("unreadable", reason)

    def locate(self, text: str) -> Path | None:
        """Where the file lies: the links to a relative path's folder are resolved, its own name is kept. OSError."""
        for own in _own_paths(text):
            if path := _as_it_is_there(self._home / own):
                return self._full_path(own, path)
        return None

    def _copied(self, text: str) -> FileReference | None:
        paths = (self._full_path(own, self._home / own) for own in _own_paths(text))
        return next(filter(None, map(self._find_copied, paths)), None)

    def _full_path(self, own: Path, path: Path) -> Path:
        return path if own.is_absolute() else Path(self._folder(path.parent), path.name)

    def _place(self, text: str) -> Path:
        """The path that was looked for, for people."""
        return Path(os.path.normpath(self._home.absolute() / _expanded(bare_path(text))))

    def _explain_missing(self, text: str) -> str:
        path = self._place(text)
        if is_of_windows(bare := bare_path(text)):
            return f"{shown_path(Path(bare))}, a path of Windows, which this machine does not have"
        if not os.path.isdir(path.parent):  # noqa: PTH112 - Path.is_dir raises on long names
            url = f"; is https://{bare.lstrip('/')} meant?" if begins_with_host(bare) else ""
            return f"{shown_path(path)}, and there is no folder {shown_path(path.parent)}{url}"
        self._missing += 1
        near = _similar(path.name, self._names(path.parent)) if self._missing <= MOST_SUGGESTED else None
        return f"{shown_path(path)}, which does not exist{f'; did you mean {near!r}?' if near else ''}"


def _own_paths(text: str) -> Iterator[Path]:
    for spelling in spellings(text):
        yield from dict.fromkeys((Path(spelling), Path(_expanded(spelling))))


def _expanded(text: str) -> str:
    return os.path.expanduser(text)  # noqa: PTH111 - Path.expanduser raises when there is no home


def _is_utf_8(path: Path) -> bool:
    """Whether a batch can keep the path: a folder's name may be any bytes."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_there(path: Path) -> bool:
    """Whether a path exists, if only as a link that leads nowhere; OSError when it cannot be known."""
    try:
        path.lstat()
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise
    return True


def _as_it_is_there(path: Path) -> Path | None:
    """The path, whether its accents are letters of their own (as macOS writes them) or not; OSError."""
    if _is_there(path):
        return path
    found = None if str(path).isascii() else Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        forms = dict.fromkeys((part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part)))
        found = next((found / form for form in forms if _is_there(found / form)), None) if found else None
    return found


def _similar(name: str, names: list[str]) -> str | None:
    """The name that may be meant: one that differs in case, in its extension or a little."""
    plain = {each.casefold(): each for each in names}
    stems = {PurePath(each).stem: each for each in plain}
    stem = stems.get(name.casefold()) or stems.get(PurePath(name.casefold()).stem)
    near = [stem] if stem else get_close_matches(name.casefold(), plain, 1, NEAR)
    return plain[near[0]] if near else None


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in islice(entries, MOST_NAMES))
    except OSError:
        return []


def _examine(path: Path) -> FileReference | UnfitFile:
    """The reference to a file; only a regular one is opened, for a pipe or a device could block. OSError."""
    try:
        found = path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return UnfitFile("loop", f"{shown_path(path)}, a symbolic link that leads in a circle")
        if error.errno in _GONE:
            target = shown_path(path.readlink())
            return UnfitFile("broken", f"{shown_path(path)}, a symbolic link to {target}, which does not exist")
        raise
    return _fault(path, found) or _read(path)


def _read(path: Path) -> FileReference | UnfitFile:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        before = os.fstat(descriptor)
        if fault := _fault(path, before):
            return fault
        if file.read(len(_POINTER)) == _POINTER:
            pointer = f"{shown_path(path)}, which is a pointer of Git LFS: `git lfs pull` fetches the file"
            return UnfitFile("pointer", pointer)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(descriptor)
        if file.tell() == before.st_size == after.st_size and before.st_mtime_ns == after.st_mtime_ns:
            return FileReference(str(path), digest, before.st_size)
    return UnfitFile("changed", f"{shown_path(path)}, which changed while it was read: is it still being written?")


def _fault(path: Path, found: os.stat_result) -> UnfitFile | None:
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        return UnfitFile("kind", f"{shown_path(path)}, which is {_KINDS.get(kind, 'not a file')}")
    if found.st_size == 0:
        return UnfitFile("empty", f"{shown_path(path)}, which is empty")
    if found.st_size > MAX_BYTES:
        too_large = f"which has more than {MAX_BYTES:,} bytes: give it by an https URL"
        return UnfitFile("large", f"{shown_path(path)}, {too_large}")
    return None
