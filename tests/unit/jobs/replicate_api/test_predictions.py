from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import Unanswered
from jobs.replicate_api.client import own_path
from jobs.replicate_api.predictions import Prediction, _create_request, _prediction, _rows
from jobs.wire import Prompt
from worker.orphans.matching import could_serve

HASH = "a" * 64
JSON: Any = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def prediction(**fields: Any) -> Prediction:
    return Prediction(fields.pop("id", "p1"), fields.pop("status", "succeeded"), fields)


@pytest.mark.parametrize(
    ("model", "path", "version"),
    [
        ("owner/name", "/v1/predictions", "owner/name"),
        (f"owner/name:{HASH}", "/v1/predictions", HASH),
        (HASH, "/v1/predictions", HASH),
        ("deployments/owner/name", "/v1/deployments/owner/name/predictions", None),
    ],
)
def test_each_kind_of_reference_has_its_request(model: str, path: str, version: str | None) -> None:
    made, body = _create_request(model, {"prompt": "cat"})
    assert made == path
    assert body == {"input": {"prompt": "cat"}} | ({"version": version} if version else {})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-21T02:00:00Z", 1795226400.0),
        ("2026-11-21T02:00:00.5Z", 1795226400.5),
        ("2026-11-21T02:00:00.123456789Z", 1795226400.123456),
        ("2026-11-21T03:00:00.000+01:00", 1795226400.0),
        ("yesterday", None),
        (None, None),
        (12, None),
    ],
)
def test_times_are_read_with_any_number_of_digits(text: Any, seconds: float | None) -> None:
    assert prediction(created_at=text).time("created_at") == seconds


def test_a_cursor_keeps_its_path_and_never_its_host() -> None:
    assert own_path("https://evil.example/v1/predictions?cursor=x%3D") == "/v1/predictions?cursor=x%3D"
    assert own_path(None) is None
    assert own_path("") is None
    assert own_path(7) is None


def test_lost_output_is_told_from_empty_output() -> None:
    assert prediction(data_removed=True, output=None).data_removed
    assert not prediction(output=None).data_removed
    assert not prediction(data_removed=True, output=None, status="failed").data_removed
    assert not prediction(data_removed=True, output=["x"]).data_removed


@pytest.mark.parametrize("status", ["starting", "processing", "pondering"])
def test_an_unknown_status_is_not_terminal(status: str) -> None:
    assert not prediction(status=status).terminal


@pytest.mark.parametrize("status", ["succeeded", "failed", "canceled", "aborted"])
def test_there_are_four_ends(status: str) -> None:
    assert prediction(status=status).terminal


def test_errors_are_texts() -> None:
    assert prediction(error=None).error is None
    assert prediction(error="boom").error == "boom"
    assert prediction(error={"a": 1}).error == "{'a': 1}"


@given(JSON)
def test_any_object_is_a_prediction_or_unanswered(body: Any) -> None:
    rows = _rows([body, {"id": "p1", "status": "starting"}])
    assert rows[-1].id == "p1"
    if not isinstance(body, dict):
        return
    try:
        assert _prediction(body).id == body["id"]
    except Unanswered:
        assert not (isinstance(body.get("id"), str) and body["id"] and isinstance(body.get("status"), str))


@given(st.dictionaries(st.sampled_from(["metrics", "error", "output", "created_at", "data_removed"]), JSON))
def test_no_field_of_a_prediction_can_break_its_reader(fields: dict[str, Any]) -> None:
    found = prediction(**fields)
    assert isinstance(found.metrics, dict)
    assert found.error is None or isinstance(found.error, str)
    assert found.time("created_at") is None or isinstance(found.time("created_at"), float)
    assert isinstance(found.data_removed, bool)


class TestServes:
    prompt = Prompt(0, "a", "owner/name", {"prompt": "cat", "seed": 1})

    def test_equal_input_in_any_order_serves(self) -> None:
        assert could_serve(prediction(input={"seed": 1, "prompt": "cat"}, model="owner/name"), self.prompt)

    def test_what_is_not_shown_contradicts_nothing(self) -> None:
        assert could_serve(prediction(input=self.prompt.input), self.prompt)

    @pytest.mark.parametrize("given", [None, {}, {"prompt": "cat"}, {"prompt": "cat", "seed": "1"}, "cat"])
    def test_another_input_does_not(self, given: Any) -> None:
        assert not could_serve(prediction(input=given, model="owner/name"), self.prompt)

    def test_another_model_does_not(self) -> None:
        assert not could_serve(prediction(input=self.prompt.input, model="owner/other"), self.prompt)

    @pytest.mark.parametrize("model", [HASH, f"owner/name:{HASH}"])
    def test_a_version_is_compared_and_a_renamed_model_is_not(self, model: str) -> None:
        prompt = Prompt(0, "a", model, {"prompt": "cat"})
        assert could_serve(prediction(input=prompt.input, version=HASH, model="owner/renamed"), prompt)
        assert could_serve(prediction(input=prompt.input, version="hidden"), prompt)
        assert not could_serve(prediction(input=prompt.input, version="b" * 64, model="owner/name"), prompt)

    def test_a_deployment_is_compared_by_its_name(self) -> None:
        prompt = Prompt(0, "a", "deployments/owner/name", {"prompt": "cat"})
        assert could_serve(prediction(input=prompt.input, deployment="owner/name", model="x/y"), prompt)
        assert not could_serve(prediction(input=prompt.input, deployment="owner/other"), prompt)
