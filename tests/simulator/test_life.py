"""A prediction's life: its states, deadlines, cancellation, waiting, retention."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from simulator.process import RunningSimulator

Create = Callable[..., dict[str, Any]]
Download = Callable[..., httpx.Response]


@pytest.fixture
def status(api: httpx.Client) -> Callable[[dict[str, Any]], str]:
    return lambda body: api.get(f"/v1/predictions/{body['id']}").json()["status"]


def test_it_starts_runs_and_ends(
    plain: RunningSimulator, api: httpx.Client, create: Create, status: Callable[[dict[str, Any]], str]
) -> None:
    made = create("simulator/text", {"queue_time": 10, "predict_time": 20})
    assert made["status"] == status(made) == "starting"
    plain.advance(10)
    assert status(made) == "processing"
    plain.advance(20)
    done = api.get(made["urls"]["get"]).json()
    assert done["status"] == "succeeded"
    assert done["metrics"]["predict_time"] == pytest.approx(20)
    assert done["metrics"]["total_time"] == pytest.approx(30)
    assert made["created_at"] < done["started_at"] < done["completed_at"]


def test_tokens_grow_while_it_runs(plain: RunningSimulator, api: httpx.Client, create: Create) -> None:
    made = create("simulator/tokens", {"prompt": "x", "count": 100, "predict_time": 100})
    assert made["output"] == []
    plain.advance(50)
    half = api.get(made["urls"]["get"]).json()["output"]
    plain.advance(60)
    whole = api.get(made["urls"]["get"]).json()["output"]
    assert 0 < len(half) < len(whole) == 100
    assert whole[: len(half)] == half


def test_the_slow_model_is_log_normal(plain: RunningSimulator, create: Create) -> None:
    plain.settings(slow_median=100.0, slow_sigma=0.5)
    for seed in range(40):
        create("simulator/slow", {"prompt": "x", "seed": seed})
    plain.advance(10_000)
    creates = plain.ledger()["creates"]
    times = sorted(each["finished_at"] - each["created_at"] for each in creates)
    assert 50 < times[20] < 200
    assert times[-1] > 1.5 * times[20]


@pytest.mark.parametrize(("queue", "final"), [(100, "aborted"), (0, "canceled")])
def test_cancel_after_ends_it(
    plain: RunningSimulator,
    create: Create,
    status: Callable[[dict[str, Any]], str],
    queue: int,
    final: str,
) -> None:
    made = create("simulator/text", {"queue_time": queue, "predict_time": 100}, cancel_after="1m5s")
    assert "deadline" in made
    plain.advance(60)
    assert status(made) != final
    plain.advance(6)
    assert status(made) == final
    cost = plain.ledger()["creates"][0]["cost"]
    assert cost == 0 if final == "aborted" else cost > 0


def test_cancel_after_changes_nothing_when_it_ends_in_time(
    plain: RunningSimulator, create: Create, status: Callable[[dict[str, Any]], str]
) -> None:
    made = create("simulator/text", {"predict_time": 5}, cancel_after="1h")
    plain.advance(10)
    assert status(made) == "succeeded"


@pytest.mark.parametrize("header", ["4", "4s", "soon", "", "-5", "5d"])
def test_a_wrong_cancel_after_is_refused(plain: RunningSimulator, api: httpx.Client, header: Any) -> None:
    body = {"version": "simulator/text", "input": {}}
    assert api.post("/v1/predictions", json=body, headers={"Cancel-After": header}).status_code == 422
    assert plain.ledger()["created"] == 0


def test_cancel_ends_a_running_one_and_leaves_an_ended_one(
    plain: RunningSimulator, api: httpx.Client, create: Create, status: Callable[[dict[str, Any]], str]
) -> None:
    running, ended = create("simulator/text", {"predict_time": 60}), create("simulator/text")
    answers = [api.post(each["urls"]["cancel"]) for each in (running, ended)]
    assert [answer.json()["status"] for answer in answers] == ["canceled", "succeeded"]
    assert status(running) == "canceled"
    assert [each["canceled_by_call"] for each in plain.ledger()["creates"]] == [True, False]
    assert api.post("/v1/predictions/nothing/cancel").status_code == 404


@pytest.mark.parametrize("prefer", ["wait", "wait=5"])
def test_prefer_wait_answers_at_the_end(api: httpx.Client, prefer: str) -> None:
    body = {"version": "simulator/text", "input": {"text": "done", "predict_time": 0.15}}
    answer = api.post("/v1/predictions", json=body, headers={"Prefer": prefer})
    assert answer.status_code == 201
    assert answer.headers["preference-applied"] == prefer
    assert (answer.json()["status"], answer.json()["output"]) == ("succeeded", "done")


def test_prefer_wait_gives_up_after_its_time(api: httpx.Client) -> None:
    body = {"version": "simulator/text", "input": {"predict_time": 60}}
    answer = api.post("/v1/predictions", json=body, headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["status"]) == (202, "processing")


def test_prefer_wait_sees_a_cancel(plain: RunningSimulator, api: httpx.Client, create: Create) -> None:
    def cancel() -> None:
        while not (ids := [each["id"] for each in plain.ledger()["creates"]]):
            pass
        api.post(f"/v1/predictions/{ids[0]}/cancel")

    other = threading.Thread(target=cancel)
    other.start()
    made = create("simulator/text", {"predict_time": 50}, prefer="wait")
    other.join()
    assert made["status"] == "canceled"


@pytest.mark.parametrize("prefer", ["wait=0", "wait=61", "wait=x"])
def test_a_wrong_prefer_is_refused(api: httpx.Client, prefer: str) -> None:
    body = {"version": "simulator/text", "input": {}}
    assert api.post("/v1/predictions", json=body, headers={"Prefer": prefer}).status_code == 422


def test_another_preference_is_ignored(api: httpx.Client) -> None:
    body = {"version": "simulator/text", "input": {}}
    answer = api.post("/v1/predictions", json=body, headers={"Prefer": "respond-async"})
    assert "preference-applied" not in answer.headers


def test_prefer_wait_may_answer_processing_with_the_files_inline(
    plain: RunningSimulator, api: httpx.Client, create: Create, download: Download
) -> None:
    plain.settings(inline=1.0)
    made = create("simulator/image", {"prompt": "x", "num_outputs": 2}, prefer="wait")
    assert made["status"] == "processing"
    later = api.get(made["urls"]["get"]).json()
    assert later["status"] == "succeeded"
    for uri, url in zip(made["output"], later["output"], strict=True):
        head, _, data = uri.partition(",")
        assert head == "data:image/webp;base64"
        assert base64.b64decode(data) == download(url).content


def test_large_files_are_not_inline(plain: RunningSimulator, create: Create) -> None:
    plain.settings(inline=1.0)
    made = create("simulator/bytes", {"size": 2_000_000}, prefer="wait")
    assert made["output"][0].startswith(plain.files_url)


def test_after_the_retention_the_data_is_gone(
    plain: RunningSimulator, api: httpx.Client, create: Create, download: Download
) -> None:
    made = create("simulator/image", {"prompt": "x"})
    assert download(made["output"][0]).status_code == 200
    plain.advance(3599)
    assert api.get(made["urls"]["get"]).json()["input"] == {"prompt": "x"}
    plain.advance(2)
    gone = api.get(made["urls"]["get"]).json()
    assert gone["data_removed"] is True
    assert (gone["input"], gone["output"], gone["logs"], gone["status"]) == ({}, None, None, "succeeded")
    assert download(made["output"][0]).status_code == 404


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [
        ({"aborted": 1.0}, "aborted", None),
        ({"canceled": 1.0}, "canceled", None),
        ({"failed": 1.0}, "failed", None),
        ({"failed_null": {"next": 1}}, "failed", None),
        ({"failed": {"rate": 1.0, "text": "no luck"}}, "failed", "no luck"),
    ],
)
def test_misfortune_ends_it_otherwise(
    plain: RunningSimulator, create: Create, fault: Any, status: str, error: Any
) -> None:
    plain.control(**fault)
    made = create("simulator/text")
    assert (made["status"], made["error"], made["output"]) == (status, error, None)


def test_an_unknown_status_passes(
    plain: RunningSimulator, create: Create, status: Callable[[dict[str, Any]], str]
) -> None:
    plain.control(unknown_status={"next": 1, "text": "pondering", "seconds": 10})
    made = create("simulator/text", {"predict_time": 30})
    assert made["status"] == "pondering"
    plain.advance(11)
    assert status(made) == "processing"


def test_data_removed_on_a_succeeded_one(plain: RunningSimulator, create: Create) -> None:
    plain.control(data_removed={"next": 1})
    made = create("simulator/image", {"prompt": "x"}, prefer="wait")
    assert (made["status"], made["output"], made["data_removed"]) == ("succeeded", None, True)
