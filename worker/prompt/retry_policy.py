"""How an attempt ended → once more after a delay, or give up. Pure: no clock, no I/O, the dice are a parameter.

`classify` judges a prediction, `classify_error` an exception; `decide` weighs the verdict against the attempts.
"""

from __future__ import annotations

import random as dice
import re
from collections.abc import Callable
from dataclasses import dataclass

from jobs.errors import (
    BatchError,
    BrokenDownload,
    FileRefused,
    FileTooBig,
    InputFileError,
    InvalidRequest,
    MissingSecret,
    NotFound,
    OutputGone,
    OverBudget,
    Unanswered,
)
from jobs.wire import ErrorKind, Failure
from worker.backoff import Backoff
from worker.limits.circuit_breaker import ModelOutcome

FREE = 5
"""How often a prompt's prediction may be aborted before its start: that is free, but not for ever."""

SOON = Backoff()
LATER = Backoff(base=10.0, cap=300.0)
ONCE_MORE = Backoff(attempts=2)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why an attempt gave no output, and how another one should wait; no `backoff`: another is pointless."""

    failure: Failure
    backoff: Backoff | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Make another attempt in `delay` seconds; `failure` says why."""

    delay: float
    failure: Failure


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The prompt's result is this failure."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class _Row:
    kind: ErrorKind
    texts: tuple[str, ...]
    backoff: Backoff | None = None


_TEXTS = (  # the first row that holds a part of the error decides: what is never retried comes first
    _Row("content_policy", ("(e005)", "flagged as sensitive", "nsfw content detected")),
    _Row("model_error", ("(e001)", "(e002)")),
    _Row("model_error", ("cuda out of memory",), ONCE_MORE),
    _Row("interrupted", ("(e003)", "(e004)"), LATER),
    _Row("interrupted", ("prediction interrupted; please retry", "(code: pa)"), SOON),
    _Row("interrupted", ("director: unexpected error", "unknown error handling prediction"), SOON),
    _Row("interrupted", ("internal error. please try again",), SOON),
)
_CODES: dict[str | None, _Row] = {  # https://replicate.com/docs/reference/error-codes, and what it advises
    "E1000": _Row("interrupted", (), SOON),  # unknown: try again
    "E1001": _Row("model_error", (), ONCE_MORE),  # out of memory: a smaller input, or another model
    "E4875": _Row("interrupted", (), ONCE_MORE),  # an internal webhook URL is empty; we never send one
    "E6716": _Row("interrupted", (), SOON),  # timeout at the start: wait a moment, try again
    "E8367": _Row("interrupted", (), SOON),  # stopped while it ran: try again if nobody stopped it on purpose
    "E8765": _Row("interrupted", (), LATER),  # the model's health check failed: wait a few minutes, try again
    "E9243": _Row("interrupted", (), SOON),  # an error at the start; reports say that trying again helps
    "E9825": _Row("interrupted", (), ONCE_MORE),  # uploading a file failed: try again, or a smaller one
    "E9828": _Row("interrupted", (), SOON),  # not on the page; reported as passing
}
_OTHER_CODE = _Row("model_error", (), ONCE_MORE)
_OWN_ERROR = _Row("model_error", ())
_SIGNS: dict[ErrorKind, ModelOutcome] = {
    "model_error": "failed",
    "content_policy": "failed",
    "interrupted": "failed",
    "canceled": "failed",
}
_FAMILY = re.compile(r"E[1-9]\d{3}", re.ASCII)
_CODE = re.compile(r"\(code: (\w+)\)|\b(E\d{3,4})\b", re.IGNORECASE | re.ASCII)
_STOPPED: dict[str, str] = {
    "aborted": "it was not started before its deadline",
    "canceled": "somebody else canceled it, or its deadline passed",
}
_ERRORS: tuple[tuple[type[BatchError], ErrorKind, Backoff | None], ...] = (
    (OutputGone, "output_lost", SOON),
    (BrokenDownload, "output_lost", SOON),
    (FileRefused, "file_refused", None),
    (FileTooBig, "file_too_big", None),
    (NotFound, "not_found", None),
    (InvalidRequest, "invalid_input", None),
    (MissingSecret, "invalid_input", None),
    (InputFileError, "input_file", None),
    (Unanswered, "create_unknown", None),
    (OverBudget, "over_budget", None),
    (BatchError, "internal", None),
)


def code_of(text: str) -> str | None:
    """Replicate's code in an error text (`PA`, `E005`), if there is one."""
    found = _CODE.search(text)
    return (found[1] or found[2]).upper() if found else None


UNFETCHED = Verdict(Failure(kind="input_file", message="the model could not fetch the upload of a local file"), SOON)
"""The upload has expired, or somebody deleted it; the next attempt has another."""


def classify(status: str, error: str | None, *, data_removed: bool = False, canceled_by_us: bool = False) -> Verdict:
    """Judge a prediction that ended without output that can be saved."""
    text = (error or "").strip()
    if status in _STOPPED:
        message = "canceled by us" if canceled_by_us else text or _STOPPED[status]
        kind: ErrorKind = "aborted" if status == "aborted" and not canceled_by_us else "canceled"
        verdict = Verdict(Failure(kind=kind, message=message, code=code_of(text)), SOON)
    elif status == "succeeded" or data_removed:
        verdict = Verdict(Failure(kind="output_lost", message="Replicate has removed the output already"), SOON)
    else:
        verdict = _classify_text(text)
    return Verdict(verdict.failure) if canceled_by_us else verdict


def _classify_text(text: str) -> Verdict:
    if not text:
        return Verdict(Failure(kind="model_error", message="the prediction failed without an error text"), SOON)
    code = code_of(text)
    row = _row(text.lower(), code)
    return Verdict(Failure(kind=row.kind, message=text, code=code), row.backoff)


def _row(text: str, code: str | None) -> _Row:
    """What the text says decides when another attempt hardly helps; else the code, which is more exact."""
    said = next((row for row in _TEXTS if any(part in text for part in row.texts)), None)
    if said and said.kind != "interrupted":
        return said
    return _CODES.get(code) or said or (_OTHER_CODE if code and _FAMILY.fullmatch(code) else _OWN_ERROR)


def classify_error(error: BatchError) -> Verdict:
    """Judge what a create, a prediction's id or an output file raised; never call it for what merely waits.

    (RateLimited, AccountRefused and NotSent use no attempt: whoever makes the call waits and sends again.)
    """
    message, code = str(error), None
    _, kind, backoff = next(row for row in _ERRORS if isinstance(error, row[0]))
    match error:
        case NotFound() if error.prediction_id is not None:
            kind, code, backoff = "output_lost", "404", SOON
        case NotFound():
            code = "404"
        case InvalidRequest():
            message, code = _with_fields(error), str(error.status)
        case OverBudget():
            message = "the batch's budget is spent; `python -m jobs retry` with a higher limit goes on"
    return Verdict(Failure(kind=kind, message=message, code=code), backoff)


def _with_fields(error: InvalidRequest) -> str:
    named = [f"{field.get('field', '?')}: {field.get('description', 'invalid')}" for field in error.fields]
    return "; ".join([str(error), *(line for line in named if line not in str(error))])


def model_outcome(verdict: Verdict | None) -> ModelOutcome:
    """What the end of an attempt (None: with an output) says of its model; `ignored` says nothing of it."""
    if verdict is None:
        return "succeeded"
    return _SIGNS.get(verdict.failure.kind, "ignored")


def decide(
    verdict: Verdict, attempt: int, max_attempts: int, random: Callable[[], float] = dice.random, *, aborted: int = 0
) -> Retry | GiveUp:
    """What to do after attempt number `attempt` (from 1); `random` gives numbers in [0, 1).

    An attempt that was aborted before its start is free; `aborted` is how many the prompt had before.
    """
    backoff = verdict.backoff
    if backoff and verdict.failure.kind == "aborted":
        return Retry(backoff.delay(aborted + 1, random), verdict.failure) if aborted < FREE else GiveUp(verdict.failure)
    if backoff is None or attempt >= max_attempts or attempt >= (backoff.attempts or max_attempts):
        return GiveUp(verdict.failure)
    return Retry(backoff.delay(attempt, random), verdict.failure)
