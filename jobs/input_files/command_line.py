"""Paths on the command line count from the current folder, those in a prompts file from its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs.input_files.local_files import LocalFiles
from jobs.input_files.path_texts import batch_output, find_path, holds_text, is_surely_path, is_url, without_at


def with_absolute_paths(key: str, value: Any) -> Any:
    """The value of an input with its relative paths made absolute, of files that are there or were surely meant."""
    if isinstance(value, dict):
        return {name: with_absolute_paths(f"{key}.{name}", item) for name, item in value.items()}
    if isinstance(value, list):
        return [with_absolute_paths(key, item) for item in value]
    if not isinstance(value, str) or holds_text(key) or is_url(value) or batch_output(value) is not None:
        return value
    return _absolute(value)


def _absolute(text: str) -> str:
    path = without_at(text)
    found = _locate(path if path is not None else text)
    if path is None:
        return str(found) if found and find_path(text) and found.is_file() else text
    if found and (found.is_file() or is_surely_path(path)):
        return f"@{found}"
    return f"@{Path.cwd() / path.strip()}" if is_surely_path(path) and not path.startswith(("~", "file:")) else text


def _locate(text: str) -> Path | None:
    try:
        return LocalFiles(Path.cwd()).locate(text)
    except OSError:
        return None
