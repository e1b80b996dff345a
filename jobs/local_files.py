"""Values of an input that look like the path of a local file, which Replicate cannot read."""

from __future__ import annotations

import re
from functools import lru_cache

PATH = re.compile(r"(?P<surely>(file:/|~/|\.{1,2}[/\\])[^\n]{1,500})|([A-Za-z]:)?[^\s:]{0,250}[/\\.][^\s:]{1,250}")
"""What is shaped like a path; only of such strings is the disk asked."""

_TEXT_KEY = re.compile(
    r"(?!.*(image|video|audio|mask|file)).*(prompt|text|message|content|caption|lyric|quer|question|instruction)",
    re.IGNORECASE | re.DOTALL,
)


@lru_cache(maxsize=1000)
def holds_text(name: str) -> bool:
    """Whether a value of that name (`input.prompt`) may say what it likes, since people read it."""
    return _TEXT_KEY.match(name) is not None
