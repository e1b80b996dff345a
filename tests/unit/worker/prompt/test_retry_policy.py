from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.errors import (
    AccountRefused,
    BatchError,
    BrokenDownload,
    FileRefused,
    FileTooBig,
    InputFileError,
    InvalidRequest,
    NotFound,
    OutputGone,
    Unanswered,
)
from jobs.wire import ErrorKind
from worker.backoff import Backoff
from worker.prompt.retry_policy import (
    LATER,
    ONCE_MORE,
    SOON,
    GiveUp,
    Retry,
    Verdict,
    classify,
    classify_error,
    code_of,
    decide,
    model_outcome,
)

PA = "Prediction interrupted; please retry (code: PA)"
POLICY = "The input or output was flagged as sensitive. Please try again with different inputs. (E005) (8zQ1)"

FAILED: list[tuple[str | None, ErrorKind, Backoff | None, str | None]] = [
    (PA, "interrupted", SOON, "PA"),
    ("Director: unexpected error handling prediction (E8765)", "interrupted", LATER, "E8765"),
    ("director: unexpected error handling prediction (E9243)", "interrupted", SOON, "E9243"),
    ("Director: unexpected error", "interrupted", SOON, None),
    ("Prediction timed out before it started (E6716)", "interrupted", SOON, "E6716"),
    ("Something in between (e9828)", "interrupted", SOON, "E9828"),
    ("Unknown error handling prediction.", "interrupted", SOON, None),
    ("Internal error. Please try again.", "interrupted", SOON, None),
    ("Service is currently unavailable due to high demand. (E003) (x1)", "interrupted", LATER, "E003"),
    ("Service is temporarily unavailable. Please try again later. (E004)", "interrupted", LATER, "E004"),
    (None, "model_error", SOON, None),
    ("", "model_error", SOON, None),
    (" \n", "model_error", SOON, None),
    ("CUDA out of memory. Tried to allocate 2.50 GiB", "model_error", ONCE_MORE, None),
    (POLICY, "content_policy", None, "E005"),
    ("it was FLAGGED AS SENSITIVE", "content_policy", None, None),
    ("NSFW content detected. Try another prompt.", "content_policy", None, None),
    ("Your account at the vendor has no credit (E001)", "model_error", None, "E001"),
    ("The vendor refused the key (E002)", "model_error", None, "E002"),
    ("list index out of range", "model_error", None, None),
    ("E003 is what I drew", "model_error", None, "E003"),
    ("Prediction failed: unknown error (E1000)", "interrupted", SOON, "E1000"),
    ("E1000", "interrupted", SOON, "E1000"),
    ("Model ran out of memory (E1001)", "model_error", ONCE_MORE, "E1001"),
    ("Internal webhook URL empty (E4875)", "interrupted", ONCE_MORE, "E4875"),
    ("E6716: Timeout starting prediction", "interrupted", SOON, "E6716"),
    ("Prediction stopped in non-terminal state (code: E8367)", "interrupted", SOON, "E8367"),
    ("Failed to upload file (E9825)", "interrupted", ONCE_MORE, "E9825"),
    ("Something that no page names (E7431)", "model_error", ONCE_MORE, "E7431"),
    ("Director: unexpected error (E7431)", "interrupted", SOON, "E7431"),
    ("E0001 is no code of Replicate's", "model_error", None, "E0001"),
    ("the colour #E10005 is too dark", "model_error", None, None),
    ("flagged as sensitive (E1000)", "content_policy", None, "E1000"),
    # of two texts the one that is never retried decides
    ("Internal error. Please try again. NSFW content detected", "content_policy", None, None),
    ("CUDA out of memory; Director: unexpected error (E8765)", "model_error", ONCE_MORE, "E8765"),
]


@pytest.mark.parametrize(("error", "kind", "backoff", "code"), FAILED)
def test_each_text_of_a_failed_prediction_has_its_verdict(
    error: str | None, kind: ErrorKind, backoff: Backoff | None, code: str | None
) -> None:
    verdict = classify("failed", error)
    assert (verdict.failure.kind, verdict.backoff, verdict.failure.code) == (kind, backoff, code)
    assert verdict.failure.message == ((error or "").strip() or "the prediction failed without an error text")


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        ("aborted", "aborted", "it was not started before its deadline"),
        ("canceled", "canceled", "somebody else canceled it, or its deadline passed"),
    ],
)
def test_a_stop_that_we_did_not_ask_for_is_retried(status: str, kind: str, message: str) -> None:
    verdict = classify(status, None)
    assert (verdict.failure.kind, verdict.failure.message, verdict.backoff) == (kind, message, SOON)
    assert classify(status, "deadline (E1200)").failure.message == "deadline (E1200)"
    assert classify(status, "deadline (E1200)").failure.code == "E1200"


@pytest.mark.parametrize(
    ("status", "kind"),
    [("aborted", "canceled"), ("canceled", "canceled"), ("failed", "interrupted"), ("succeeded", "output_lost")],
)
def test_nothing_is_tried_again_once_we_canceled(status: str, kind: str) -> None:
    verdict = classify(status, PA, canceled_by_us=True)
    assert (verdict.failure.kind, verdict.backoff) == (kind, None)
    assert decide(verdict, 1, 99) == GiveUp(verdict.failure)


def test_a_removed_output_is_lost_and_made_again() -> None:
    verdict = classify("succeeded", None, data_removed=True)
    assert (verdict.failure.kind, verdict.backoff) == ("output_lost", SOON)
    assert classify("failed", None, data_removed=True).failure.kind == "output_lost"


URL = "https://replicate.delivery/x/output.png"
RAISED: list[tuple[BatchError, ErrorKind, str | None, Backoff | None]] = [
    (NotFound("no such model", status=404), "not_found", "404", None),
    (NotFound("no such prediction", status=404, prediction_id="abc"), "output_lost", "404", SOON),
    (InvalidRequest("Input validation failed", status=422), "invalid_input", "422", None),
    (InvalidRequest("Too large", status=413), "invalid_input", "413", None),
    (InputFileError("cat.png has changed"), "input_file", None, None),
    (Unanswered("no answer in 30 s"), "create_unknown", None, None),
    (OutputGone("404", URL), "output_lost", None, SOON),
    (BrokenDownload("md5 differs", URL), "output_lost", None, SOON),
    (FileRefused("not an allowed host", URL), "file_refused", None, None),
    (FileTooBig("over 5 GB", URL), "file_too_big", None, None),
    (AccountRefused("no credit", status=402), "internal", None, None),
]


@pytest.mark.parametrize(("error", "kind", "code", "backoff"), RAISED)
def test_each_exception_has_its_verdict(
    error: BatchError, kind: ErrorKind, code: str | None, backoff: Backoff | None
) -> None:
    verdict = classify_error(error)
    assert (verdict.failure.kind, verdict.failure.code, verdict.backoff) == (kind, code, backoff)
    assert verdict.failure.message == str(error)


def test_an_invalid_request_names_its_fields_once() -> None:
    fields = [
        {"type": "required", "field": "input.prompt", "description": "prompt is required"},
        {"type": "type"},
        {"field": "seed", "description": "must be an integer"},
    ]
    error = InvalidRequest("Input validation failed - seed: must be an integer", status=422, fields=fields)
    assert classify_error(error).failure.message == (
        "Input validation failed - seed: must be an integer; input.prompt: prompt is required; ?: invalid"
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (PA, "PA"),
        ("(code: ab1)", "AB1"),
        ("high demand (E003) (tWz)", "E003"),
        ("Director (E8765)", "E8765"),
        ("at 0xE0031", None),
        ("E12", None),
        ("E98765", None),
        ("", None),
    ],
)
def test_the_code_is_found_in_the_text(text: str, code: str | None) -> None:
    assert code_of(text) == code


@pytest.mark.parametrize(
    ("backoff", "most"),
    [(SOON, [1, 2, 4, 8, 16, 32, 60, 60]), (LATER, [10, 20, 40, 80, 160, 300, 300])],
)
def test_delays_double_up_to_the_cap_with_full_jitter(backoff: Backoff, most: list[float]) -> None:
    tries = range(1, len(most) + 1)
    assert [backoff.delay(attempt, lambda: 1.0) for attempt in tries] == most
    assert [backoff.delay(attempt, lambda: 0.5) for attempt in tries] == [delay / 2 for delay in most]
    assert [backoff.delay(attempt, lambda: 0.0) for attempt in tries] == [0.0 for _ in most]


def test_a_retry_carries_its_reason_until_the_attempts_are_used_up() -> None:
    verdict = classify("failed", PA)
    decisions = [decide(verdict, attempt, 3, lambda: 0.5) for attempt in (1, 2, 3)]
    assert decisions == [Retry(0.5, verdict.failure), Retry(1.0, verdict.failure), GiveUp(verdict.failure)]


def test_out_of_memory_is_tried_once_more_however_many_attempts_are_allowed() -> None:
    verdict = classify("failed", "CUDA out of memory")
    assert isinstance(decide(verdict, 1, 10), Retry)
    assert decide(verdict, 2, 10) == GiveUp(verdict.failure)
    assert decide(verdict, 1, 1) == GiveUp(verdict.failure)


def test_what_was_aborted_before_its_start_is_free_five_times() -> None:
    verdict = classify("aborted", None)
    assert decide(verdict, 1, 1, lambda: 0.5, aborted=4) == Retry(8.0, verdict.failure)
    assert decide(verdict, 1, 99, aborted=5) == GiveUp(verdict.failure)


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (None, "succeeded"),
        (classify("failed", "(E005)"), "failed"),
        (classify("canceled", None), "failed"),
        (classify("aborted", None), "ignored"),
        (classify("succeeded", None, data_removed=True), "ignored"),
        (classify_error(InvalidRequest("no", status=422)), "ignored"),
        (classify_error(NotFound("no", status=404)), "ignored"),
        (classify_error(NotFound("no", status=404, prediction_id="p")), "ignored"),
        (classify_error(Unanswered("no")), "ignored"),
    ],
)
def test_an_ending_says_something_of_its_model_or_nothing(verdict: Verdict | None, said: str) -> None:
    assert model_outcome(verdict) == said


KNOWN = st.sampled_from([row[0] for row in FAILED])
VERDICTS = st.one_of(
    st.builds(
        classify,
        st.sampled_from(["failed", "aborted", "canceled", "succeeded"]) | st.text(),
        KNOWN | st.text() | st.tuples(st.text(), KNOWN).map(lambda parts: f"{parts[0]}{parts[1]}"),
        data_removed=st.booleans(),
        canceled_by_us=st.booleans(),
    ),
    st.builds(classify_error, st.sampled_from([row[0] for row in RAISED])),
)


@given(VERDICTS, st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 1, exclude_max=True), st.integers(0, 9))
@example(classify("failed", PA), 3, 3, 0.9, 0)
@example(classify("failed", None), 10**6 - 1, 10**6, 0.99, 0)
def test_every_ending_has_a_decision(verdict: Verdict, attempt: int, most: int, roll: float, aborted: int) -> None:
    decision = decide(verdict, attempt, most, lambda: roll, aborted=aborted)
    assert decision.failure == verdict.failure
    assert decision.failure.message
    free = verdict.failure.kind == "aborted"
    if isinstance(decision, Retry):
        assert aborted < 5 if free else attempt < most
        assert verdict.backoff is not None
        assert 0 <= decision.delay <= verdict.backoff.cap <= 300
    else:
        assert free or attempt >= most or verdict.backoff in (None, ONCE_MORE)


@given(st.text(), st.sampled_from(["(E005)", "(e005)", "flagged as Sensitive", "nsfw Content detected"]), KNOWN)
def test_content_policy_is_never_retried_whatever_stands_around_it(before: str, text: str, after: str | None) -> None:
    verdict = classify("failed", f"{before} {text} {after}")
    assert verdict.failure.kind == "content_policy"
    assert verdict.backoff is None
