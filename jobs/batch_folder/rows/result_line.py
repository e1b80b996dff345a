"""A result as a line of results.jsonl."""

from __future__ import annotations

import json
from typing import Any

from jobs.batch_folder.reviews import Review
from jobs.errors import DamagedRecord
from jobs.secret_inputs import shown_input
from jobs.wire import Failure, Prompt, Result

REVIEW = "review"
"""The key of a line that its prompt's record has not."""

_LINE_BREAKS = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})
"""JSON leaves these as they are, but `str.splitlines` and many an editor break a line at them."""


def result_line(result: Result) -> str:
    """One line of results.jsonl without its end: the keys in the model's order, text left readable."""
    return _text(result.model_dump())  # by json: pydantic stops at depth 255


def reviewed_line(line: str, review: Review) -> str:
    """The line with what somebody thinks of the result as its last key."""
    return f'{line[:-1]},"{REVIEW}":{_text(review.model_dump(exclude={"id"}))}}}'


def damaged_result(prompt: Prompt, error: DamagedRecord) -> Result:
    """The result of a prompt whose record is damaged: a failure that says so."""
    failure = Failure(kind="internal", message=str(error))
    shown = shown_input(prompt.input)
    return Result(id=prompt.id, index=prompt.index, status="failed", model=prompt.model, input=shown, error=failure)


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_LINE_BREAKS)
