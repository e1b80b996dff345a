"""Values of an input that look like the path of a local file, which Replicate cannot read."""

from __future__ import annotations

import re
from functools import lru_cache

_PATH = re.compile(
    r"(?P<surely>(file:/|~/|\.{1,2}[/\\]|[a-z]:[/\\]|\\\\[\w.-]+\\)[^\n]{1,1000})"
    r"|(?!data:|[a-z][a-z0-9+.-]+://)(?=[^\n]{0,999}[/\\.][^\n])[^\n]{1,1000}",
    re.IGNORECASE,
)

_TEXT_KEY = re.compile(
    r"(?!.*(image|video|audio|mask|file)).*(prompt|text|message|content|caption|lyric|quer|question|instruction)",
    re.IGNORECASE | re.DOTALL,
)


def find_path(value: str) -> re.Match[str] | None:
    """Match a value that looks like a path, as `surely` if it can be nothing else; only these are looked up on disk."""
    return _PATH.fullmatch(value.strip())


@lru_cache(maxsize=1000)
def holds_text(name: str) -> bool:
    """Whether a value of that name (`input.prompt`) is text for people, which may look like anything."""
    return _TEXT_KEY.match(name) is not None
