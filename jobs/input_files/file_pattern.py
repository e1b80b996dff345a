"""The files that a pattern names, as in a shell: `stills/*.png`, `shots/**/*.{jpg,png}`, or a folder.

Unlike a shell, it ignores case, and how accents are stored; and a name that exists as it is written, brackets and all,
is that file or folder.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from fnmatch import translate
from pathlib import Path
from typing import NamedTuple

from jobs.errors import InputError
from jobs.input_files.media_kinds import is_of_system, media_kind

ANY_DEPTH = "**"

_WILD = re.compile(r"[*?\[]")
_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")
_DIGITS = re.compile(r"(\d+)")
_MOST_EXAMPLES = 3

_Part = tuple[bool, int, str]
"""Digits come before letters."""


class FoundFile(NamedTuple):
    """A file's absolute path, and its path below the folder that the pattern begins with, for its id."""

    path: str
    name: str


class FilePattern:
    """Finds files by a pattern, relative to the current folder."""

    def __init__(self, text: str) -> None:
        self._text = text
        path = Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises when there is no home
        self._base, self._parts = _fixed_part(path.absolute())

    @property
    def folder(self) -> Path:
        """The folder that the pattern begins with."""
        return self._base

    def files(self, notes: list[str]) -> list[FoundFile]:
        """The files in the order of a file manager, 2 before 10; what is left out is noted. InputError if none."""
        parts = self._parts or ["*"]
        is_literal = len(parts) == 1 and _literal(str(self._base), parts[0]) is not None
        forms = parts if is_literal else _expand_braces("/".join(parts))
        paths = list(dict.fromkeys(path for form in forms for path in _walk(str(self._base), form.split("/"))))
        if not paths:
            raise InputError(f"--each-file: {self._explain_nothing(parts)}")
        wanted = self._media(paths, notes) if not is_literal and _is_open(parts[-1]) else paths
        found = (FoundFile(path, os.path.relpath(path, self._base)) for path in wanted)
        return sorted(found, key=lambda file: _natural(file.name))

    def _media(self, paths: list[str], notes: list[str]) -> list[str]:
        """The pictures, videos or sounds if a pattern says nothing of types: not the captions that lie beside them."""
        kinds = Counter(filter(None, map(media_kind, paths)))
        if not kinds:
            return paths
        if len(kinds) > 1:
            counts = " and ".join(f"{kind}s ({count:,})" for kind, count in sorted(kinds.items()))
            raise InputError(f"--each-file: {self._text!r} has {counts}; name those that are meant, as in '*.png'")
        if others := sorted(Path(path).name for path in paths if not media_kind(path)):
            few = ", ".join(others[:_MOST_EXAMPLES]) + (", …" if len(others) > _MOST_EXAMPLES else "")
            what = "1 file is" if len(others) == 1 else f"{len(others):,} files are"
            notes.append(f"{what} left out beside the {next(iter(kinds))}s: {few}")
        return [path for path in paths if media_kind(path)]

    def _explain_nothing(self, parts: list[str]) -> str:
        """Why nothing is found, with what is there."""
        first = parts[0]
        if len(parts) > 1 and not _WILD.search(first) and not _BRACES.search(first):
            return f"there is no folder {str(self._base / first)!r}"
        names = [entry.name for entry in _entries(str(self._base), "*") if not _is_folder(entry)]
        suffixes = Counter(Path(name).suffix.lower() or "without a suffix" for name in names)
        has = ", ".join(f"{count:,} {suffix}" for suffix, count in suffixes.most_common(_MOST_EXAMPLES)) or "no file"
        deeper = "" if ANY_DEPTH in parts else "; ** stands for folders of any depth: 'FOLDER/**/*.png'"
        return f"{self._text!r} names no file; {str(self._base)!r} has {has}{deeper}"


def _fixed_part(path: Path) -> tuple[Path, list[str]]:
    """The folder that a pattern begins with, and the parts below it."""
    base, parts = Path(path.anchor), list(path.parts[1:])
    while parts and (name := _literal(str(base), parts[0])) is not None:
        if not (base / name).is_dir():
            break
        base, parts = base / name, parts[1:]
    return base, parts


def _literal(folder: str, part: str) -> str | None:
    """The entry of exactly that name, however its accents are stored."""
    if part == ".." or os.path.lexists(Path(folder, part)):
        return part
    if part.isascii() or _WILD.search(part):
        return None
    same = (entry.name for entry in _scan(folder) if _composed(entry.name) == _composed(part))
    return next(same, None)


def _expand_braces(pattern: str) -> Iterator[str]:
    found = _BRACES.search(pattern)
    if not found:
        yield pattern
        return
    for option in found[1].split(","):
        yield from _expand_braces(pattern[: found.start()] + option + pattern[found.end() :])


def _walk(folder: str, parts: list[str]) -> Iterator[str]:
    """The paths of all that is no folder; links to folders are not followed below `**`, where they may lead back."""
    part, *rest = parts
    if part == ANY_DEPTH:
        yield from _walk(folder, rest or ["*"])
        for entry in _entries(folder, "*"):
            if _is_folder(entry, follow_links=False):
                yield from _walk(entry.path, parts)
        return
    for entry in _entries(folder, part):
        if not rest and not _is_folder(entry):
            yield entry.path
        elif rest and _is_folder(entry):
            yield from _walk(entry.path, rest)


def _is_folder(entry: os.DirEntry[str], *, follow_links: bool = True) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_links)
    except OSError:  # a link in a circle
        return False


def _entries(folder: str, part: str) -> Iterator[os.DirEntry[str]]:
    """What a part of a pattern names in a folder; without hidden files, unless it begins with a dot."""
    literal = _literal(folder, part)
    matches = re.compile(translate(_composed(part).lower())).match
    for entry in _scan(folder):
        if literal is not None:
            if entry.name == literal:
                yield entry
        elif (part.startswith(".") or not is_of_system(entry.name)) and matches(_composed(entry.name).lower()):
            yield entry


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InputError(f"--each-file: {folder} cannot be read: {error.strerror or error}") from None


def _is_open(part: str) -> bool:
    """Whether the last part of a pattern says nothing of the files' type."""
    return bool(_WILD.search(part)) and ("." not in part or _WILD.search(part.rpartition(".")[2]) is not None)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _natural(name: str) -> tuple[list[list[_Part]], str]:
    """Numbers by their value, letters without regard to case, folder by folder, and extensions last."""
    stem, _, suffix = _composed(name).rpartition(".")
    return [[_part(part) for part in _DIGITS.split(each)] for each in (*(stem or suffix).split("/"), suffix)], name


def _part(text: str) -> _Part:
    return (False, int(text), text) if text.isdecimal() else (True, 0, text.casefold())
