from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from simulator.process import RunningSimulator

Create = Callable[..., dict[str, Any]]


@pytest.fixture
def control(plain: RunningSimulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{plain.url}/control/", trust_env=False) as client:
        yield client


def test_it_is_never_limited_or_faulted_and_needs_no_token(plain: RunningSimulator, control: httpx.Client) -> None:
    plain.settings(limiter="sliding", limit_reads=1, limit_gets=1)
    plain.control(error=1.0, reset=1.0, hang=1.0)
    answers = [control.get(path) for path in ("health", "ledger", "faults", "settings", "clock") for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}


def test_the_ledger_tells_creates_costs_and_repetitions(
    plain: RunningSimulator, create: Create, control: httpx.Client
) -> None:
    first = create("simulator/text", {"text": "a", "predict_time": 0.5})
    create("simulator/text", {"text": "a", "predict_time": 9})
    create("simulator/slow", {"prompt": "a"})
    plain.advance(10_000)
    ledger = plain.ledger()
    row = ledger["creates"][0]
    assert (ledger["created"], ledger["repeated"], ledger["statuses"]) == (3, 1, {"succeeded": 3})
    assert ledger["cost"] == pytest.approx(0.003 + 0.003 + 0.05)
    assert (ledger["uploaded"], ledger["uploads_left"], ledger["unfetched"], ledger["uploads"]) == (0, 0, 0, [])
    assert (row["uploads"], row["unfetched"]) == ([], [])
    assert (row["id"], row["model"], row["asked"]) == (first["id"], "simulator/text", "simulator/text")
    assert row["finished_at"] == pytest.approx(row["created_at"] + 0.5)
    assert [len(group["ids"]) for group in ledger["groups"]] == [2, 1]
    assert ledger["api_tokens"] == {"r8_a_token_for_tests": 3}
    assert ledger["answers"] == {"201": 3}
    summary = control.get("ledger?summary=1").json()
    assert summary == plain.ledger(summary=True)
    assert "creates" not in summary
    assert [group["model"] for group in summary["groups"]] == ["simulator/text"]


def test_calls_are_counted_by_kind(plain: RunningSimulator, api: httpx.Client, create: Create) -> None:
    made = create("simulator/text")
    for path in (f"predictions/{made['id']}", "predictions", "files", "account", "models/simulator/text", "nothing"):
        api.get(f"/v1/{path}")
    api.post(made["urls"]["cancel"])
    api.post("/v1/files", files={"content": b"x"})
    kinds = {"create": 1, "get": 1, "list": 1, "files": 1, "account": 1, "models": 2, "cancel": 1, "upload": 1}
    assert plain.ledger()["calls"] == kinds


def test_reset_forgets_everything(
    plain: RunningSimulator, api: httpx.Client, create: Create, control: httpx.Client
) -> None:
    create("simulator/text")
    api.post("/v1/files", files={"content": b"x"})
    plain.control(failed=1.0)
    plain.advance(1000)
    plain.reset()
    assert plain.ledger()["created"] == 0
    assert plain.ledger()["calls"] == {}
    assert control.get("faults").json() == {}
    assert control.get("settings").json()["loose"] == 0.2
    assert control.get("clock").json()["ahead"] == 0
    assert api.get("/v1/files").json()["results"] == []
    assert api.get("/v1/predictions").json()["results"] == []


def test_settings_are_shown_and_changed(plain: RunningSimulator, control: httpx.Client) -> None:
    assert plain.settings(limit_creates=7, token="x", credit=3)["limit_creates"] == 7
    assert control.get("settings").json()["token"] == "x"


@pytest.mark.parametrize(
    "values",
    [
        {"speed": 3},
        {"limit_creates": "many"},
        {"limit_creates": 0},
        {"limit_window": -1.0},
        {"limit_rejected": 1},
        {"limit_creates": True},
        {"limiter": "sometimes"},
        {"loose": None},
    ],
)
def test_a_wrong_setting_is_refused(control: httpx.Client, values: dict[str, Any]) -> None:
    before = control.get("settings").json()
    assert control.post("settings", json=values).status_code == 422
    assert control.get("settings").json() == before


def test_the_clock_is_in_the_date_of_each_answer(plain: RunningSimulator, api: httpx.Client) -> None:
    plain.advance(-400 * 24 * 3600)
    early = api.get("/v1/account").headers["date"]
    plain.advance(800 * 24 * 3600)
    assert api.get("/v1/account").headers["date"] != early


@pytest.mark.parametrize("path", ["faults", "settings", "clock"])
def test_a_body_that_is_no_object_is_refused(control: httpx.Client, path: str) -> None:
    assert [control.post(path, content=content).status_code for content in (b"[]", b"{")] == [422, 422]


def test_other_control_paths_are_404(control: httpx.Client) -> None:
    assert control.get("nothing").status_code == 404
