"""Which values of an input name a local file, by what they look like."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import PurePath
from typing import Any
from urllib.parse import unquote

_PATH = re.compile(
    r"(?P<surely>(file:/|~/|\.{1,2}[/\\]|[a-z]:[/\\]|\\\\[\w.-]+\\)[^\n]{1,1000})"
    r"|(?!data:|[a-z][a-z0-9+.-]+://)(?=[^\n]{0,999}[/\\.][^\n])[^\n]{1,1000}",
    re.IGNORECASE,
)

_TEXT_KEY = re.compile(
    r"(?!.*(image|video|audio|mask|file)).*(prompt|text|message|content|caption|lyric|quer|question|instruction)",
    re.IGNORECASE | re.DOTALL,
)

_BATCH = "batch:"

_URL = re.compile(r"\s*(data:|(?!file:)[a-z][a-z0-9+.-]+://)", re.IGNORECASE)

_USUAL_SUFFIX = re.compile(
    r".*\.(png|jpe?g|jpe|webp|gif|avif|hei[cf]|bmp|tiff?|svg|exr|hdr|psd|dng|mp4|mov|webm|mkv|avi|m4v|mpe?g|ogv"
    r"|wav|mp3|m4a|aac|flac|og[ga]|opus|aiff?|midi?|pdf|txt|md|csv|jsonl?|srt|vtt|zip|tar|t?gz|7z"
    r"|safetensors|ckpt|pth?|np[yz]|gl(b|tf)|obj|fbx|stl|ply|usdz|[ot]tf)",
    re.IGNORECASE,
)

LONGEST_SHOWN = 300

_INVISIBLE = "\ufeff\u200b\u200e\u200f\u202a\u202b\u202c\u2066\u2067\u2068\u2069"
"""Byte order mark, blank without width, and marks of the direction of text."""


def find_path(value: str) -> re.Match[str] | None:
    """Match a value that looks like a path, as `surely` if it can be nothing else; only these are looked up on disk."""
    return _PATH.fullmatch(value.strip())


def without_at(value: str) -> str | None:
    """The path in `@path`; None when the value is not written so."""
    bare = value.lstrip()
    return bare[1:] if bare.startswith("@") else None


def batch_output(value: str) -> str | None:
    """The `BATCH/ID/FILE` in `@batch:BATCH/ID/FILE`; None when the value is not written so."""
    path = without_at(value)
    return path.strip()[len(_BATCH) :] if path and path.startswith(_BATCH) else None


def with_own_id(values: dict[str, Any], prompt_id: str) -> dict[str, Any]:
    """An input with the id of its row for `{id}` in outputs of batches."""
    return {key: value if holds_text(f"input.{key}") else _filled(value, prompt_id) for key, value in values.items()}


def _filled(value: Any, prompt_id: str) -> Any:
    if type(value) is str:
        return value if batch_output(value) is None else value.replace("{id}", prompt_id)
    if type(value) is list:
        return [_filled(item, prompt_id) for item in value]
    return {key: _filled(item, prompt_id) for key, item in value.items()} if type(value) is dict else value


def may_name_file(name: str, value: str) -> bool:
    """Whether the value of that name (`input.image`) may be a file, whatever its model's schema says."""
    return (value.lstrip().startswith("@") or find_path(value) is not None) and not holds_text(name)


def is_surely_path(text: str) -> bool:
    """Whether the text after an @ can only be a path: `@someone` and `@john.doe` are not."""
    bare = text.strip()
    found = find_path(bare)
    return bool(found and (bare.startswith("/") or found["surely"] or _USUAL_SUFFIX.fullmatch(bare)))


def is_url(value: str) -> bool:
    """Whether a value is not looked for on disk: `https://…`, `s3://…`, `data:…`, but not `file://…`."""
    return _URL.match(value) is not None


@lru_cache(maxsize=1000)
def holds_text(name: str) -> bool:
    """Whether a value of that name (`input.prompt`) is text for people, which may look like anything."""
    return _TEXT_KEY.match(name) is not None


def spellings(text: str) -> Iterator[str]:
    """The paths that a text may mean, the likeliest first: as it is written, and as other programs write it.

    Without what is around it; with / for the backslashes of Windows; from the URL that a browser shows.
    """
    path = bare_path(text)
    forms = [path, _without_scheme(text), text] if _is_file_url(text) else [text, path, path.replace("\\", "/")]
    yield from dict.fromkeys(form for form in forms if form)


def bare_path(text: str) -> str:
    """The path in a text, without what is around it: blanks of a table's cell, quotes and marks of a copied path."""
    if _is_file_url(text):
        return unquote(_without_scheme(text))
    bare = text.strip().strip(_INVISIBLE).strip()
    return bare[1:-1] if len(bare) > 2 and bare[0] == bare[-1] and bare[0] in "\"'" else bare


def is_of_windows(path: str) -> bool:
    """Whether a path begins with the letter of a drive, or with the name of a server."""
    return re.match(r"[a-z]:[/\\]|\\\\", path, re.IGNORECASE) is not None


def begins_with_host(path: str) -> bool:
    """Whether a path may be a URL without its scheme: `www.example.com/a.png`."""
    return re.match(r"(//)?([a-z0-9-]+\.)+[a-z]{2,}/", path, re.IGNORECASE) is not None


def _is_file_url(text: str) -> bool:
    return text.strip()[:5].lower() == "file:"


def _without_scheme(url: str) -> str:
    return url.strip()[5:].removeprefix("//").removeprefix("localhost")


def shown_path(path: PurePath) -> str:
    """A path for people: one that would steer a terminal in quotes, the middle of a very long one left out."""
    text = str(path)
    if len(text) > LONGEST_SHOWN:
        text = f"{text[: LONGEST_SHOWN // 2]}…{text[-LONGEST_SHOWN // 2 :]}"
    return text if text.isprintable() else repr(text)
