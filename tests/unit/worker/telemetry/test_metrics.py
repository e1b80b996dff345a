from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from jobs.errors import BatchError, InvalidRequest, NotSent, OverBudget, RateLimited, Unanswered
from jobs.replicate_api.predictions import Prediction
from jobs.wire import Failure, Result
from worker.telemetry import metrics
from worker.telemetry.metrics import ModelLabels


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(f"replicate_batch_{name}", labels) or 0.0


def test_versions_share_a_label_and_models_beyond_the_most_are_other() -> None:
    label_of = ModelLabels(most=2)
    assert [label_of(f"owner/a:{number:064}") for number in range(100)] == ["owner/a"] * 100
    assert [label_of("owner/b"), label_of("owner/c"), label_of("owner/a:v2")] == ["owner/b", "other", "owner/a"]


def test_a_thousand_models_make_no_thousand_series() -> None:
    label_of = ModelLabels(most=5)
    assert len({label_of(f"owner/{number}") for number in range(1000)}) == 6


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "2xx"),
        (RateLimited("slow down", retry_after=1), "429"),
        (InvalidRequest("no", status=422), "422"),
        (NotSent("no connection"), "not_sent"),
        (NotSent("a firewall", status=403), "403"),
        (Unanswered("a timeout"), "unanswered"),
        (Unanswered("a 5xx", status=502), "502"),
    ],
)
def test_a_request_is_counted_by_its_answer(error: Exception | None, status: str) -> None:
    before = value("api_requests_total", bucket="create", status=status)
    request(error)
    request(error, inside=True)
    assert value("api_requests_total", bucket="create", status=status) == before + 2


def test_a_request_that_was_not_made_is_not_counted() -> None:
    before = total("replicate_batch_api_requests_total")
    request(OverBudget("spent"))
    assert total("replicate_batch_api_requests_total") == before
    request(None)
    assert total("replicate_batch_api_requests_total") == before + 1


def request(error: Exception | None, *, inside: bool = False) -> None:
    """A request that ends with an error, or (`inside`) with another one that is about it."""
    with suppress(BatchError, ValueError), metrics.count_request("create"):
        if error:
            fail(error, inside=inside)


def fail(error: Exception, *, inside: bool) -> None:
    if inside:
        raise ValueError("what became of it") from error
    raise error


def total(name: str) -> float:
    samples = [sample for metric in metrics.REGISTRY.collect() for sample in metric.samples]
    return sum(sample.value for sample in samples if sample.name == name)


def prompt(**facts: Any) -> Result:
    return Result(id="a", index=0, model="unit/prompt:v1", input={}, **facts)


def test_a_prompt_is_counted_with_its_cost_or_its_error() -> None:
    metrics.count_prompt(prompt(status="succeeded", cost=0.25))
    metrics.count_prompt(prompt(status="failed", cost=0.5, error=Failure(kind="file_too_big", message="big")))
    metrics.count_prompt(prompt(status="canceled"))
    for status in ("succeeded", "failed", "canceled"):
        assert value("prompts_total", model="unit/prompt", status=status) == 1
    assert value("cost_dollars_total", model="unit/prompt") == 0.75
    assert value("failures_total", kind="file_too_big") == 1


@pytest.mark.parametrize(("status", "label"), [("succeeded", "succeeded"), ("aborted", "aborted"), ("new!", "overdue")])
def test_a_prediction_is_counted_by_how_it_ended(status: str, label: str) -> None:
    times = {"created_at": "2026-01-01T00:00:00Z", "completed_at": "2026-01-01T00:00:07Z"}
    model = f"unit/{label}"
    metrics.count_prediction(model, Prediction("p", status, times))
    metrics.count_prediction(model, Prediction("p", status, {"completed_at": None}))
    assert value("predictions_total", model=model, status=label) == 2
    assert value("prediction_duration_seconds_sum", model=model) == 7


def test_the_series_of_a_model_begin_at_zero() -> None:
    metrics.count_attempt("unit/begun")
    assert metrics.REGISTRY.get_sample_value(
        "replicate_batch_prompts_total", {"model": "unit/begun", "status": "failed"}
    ) == 0.0  # fmt: skip


def test_a_detection_is_measured_by_replicates_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    before = value("detection_delay_seconds_sum"), value("detection_delay_seconds_count")
    monkeypatch.setattr("time.time", lambda: 1000.0)
    metrics.observe_detection(1058.0, clock_offset=60.0)
    metrics.observe_detection(1070.0, clock_offset=60.0)  # ended after it was detected: the clocks are only so exact
    metrics.observe_detection(None, clock_offset=60.0)
    after = value("detection_delay_seconds_sum"), value("detection_delay_seconds_count")
    assert after == (before[0] + 2.0, before[1] + 2)
