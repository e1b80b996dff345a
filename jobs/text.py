"""Texts as people see them: foreign ones made printable, commands as the reader would type them."""

from __future__ import annotations

import re

from jobs.environment import started_by_make

_COMMAND = re.compile(r"python -m (jobs|worker|arq)\b ?([^`;\n]*)")
_OPTION = re.compile(
    r"(?<![\w-])--(name|model|input|each-file|each|from|as|repeat|seed-from|template|map|sample-seed|sample|priority|limit"
    r"|max-predictions|max-cost|max-in-flight|confirm-above|pilot|by)\b(?: (?=\w+=|N\b))?"
)
_FLAG = re.compile(
    r"(?<![\w-])--(append|replace|allow-unknown|no-model-check|copy-inputs|keep-uploads|check|all|json"
    r"|dynamic-prompts)(?![\w-])"
)
_TARGETS = {"status": "BATCH", "watch": "BATCH", "enqueue": "FILE", "run": "FILE"}


def printable(text: str) -> str:
    """Foreign text without control characters, which could steer a terminal; line ends stay."""
    return "".join(c if c == "\n" or c.isprintable() else "�" for c in text)


def as_typed(text: str) -> str:
    """The text itself; through make, its commands and options as make takes them."""
    return with_make(text) if started_by_make() else text


def with_make(text: str) -> str:
    """Translate what make has a target or a variable for; other commands get the path of our Python."""
    parts, end = [], 0
    for match in _COMMAND.finditer(text):
        parts += [_options(text[end : match.start()]), _command(match)]
        end = match.end()
    return "".join([*parts, _options(text[end:])])


def size_text(size: float) -> str:
    """Bytes for people: `1.5 kB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _command(match: re.Match[str]) -> str:
    package, rest = match.groups()
    if package == "arq":
        return "make worker" + rest.removeprefix("worker.Settings")
    command, _, argument = rest.partition(" ")
    if package == "jobs" and command in _TARGETS and not argument.startswith("-") and " " not in argument.strip():
        given = "prompts.jsonl" if argument == "FILE" else argument
        return f"make {command} {_TARGETS[command]}={given}" if given else f"make {command}"
    return f".venv/bin/{match[0]}"


def _options(text: str) -> str:
    text = _OPTION.sub(lambda match: f"{_variable(match)}=", text)
    return _FLAG.sub(lambda match: f"{_variable(match)}=1", text)


def _variable(match: re.Match[str]) -> str:
    return match[1].upper().replace("-", "_")
