"""A finding: ok, a warning or a failure, and the cure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

Severity = Literal["ok", "warning", "failure"]


class Finding(BaseModel):
    """One line of `doctor`; `cure` is what to do about it."""

    model_config = ConfigDict(frozen=True)

    check: str
    verdict: Severity
    message: str
    cure: str | None = None


def ok(check: str, message: str) -> Finding:
    """All is well."""
    return Finding(check=check, verdict="ok", message=message)


def warning(check: str, message: str, cure: str | None = None) -> Finding:
    """It works, but a person should know."""
    return Finding(check=check, verdict="warning", message=message, cure=cure)


def failure(check: str, message: str, cure: str | None = None) -> Finding:
    """It will not work, or may lose data or money."""
    return Finding(check=check, verdict="failure", message=message, cure=cure)


def finding_lines(findings: Iterable[Finding]) -> Iterator[str]:
    """A line for each finding and one for its cure, and a last line with the counts."""
    counts = {"ok": 0, "warning": 0, "failure": 0}
    for found in findings:
        counts[found.verdict] += 1
        yield f"{found.verdict:<8} {found.check:<11} {found.message}"
        if found.cure:
            yield f"{'':<20} → {found.cure}"
    words = (f"{count} {word}{'' if count == 1 or word == 'ok' else 's'}" for word, count in counts.items())
    yield ", ".join(words)
