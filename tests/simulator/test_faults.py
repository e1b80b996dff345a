from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import pytest

from simulator.answers import Problem
from simulator.faults import FAULTS, Faults, from_flag
from simulator.process import RunningSimulator
from simulator.randomness import SeededRandom

BODY = {"version": "simulator/text", "input": {"text": "x"}}


def test_an_error_before_the_effect(plain: RunningSimulator, api: httpx.Client) -> None:
    plain.control(error={"next": 12})
    answers = [api.post("/v1/predictions", json=BODY) for _ in range(13)]
    assert {answer.status_code for answer in answers[:-1]} <= {500, 502, 503, 504}
    assert len({answer.headers["content-type"] for answer in answers[:-1]}) == 2
    assert answers[-1].status_code == 201
    assert plain.ledger()["created"] == 1
    assert plain.ledger()["faults"] == {"error": 12}


@pytest.mark.parametrize("how", ["reset", "hang"])
def test_a_lost_answer_has_its_effect(plain: RunningSimulator, api: httpx.Client, how: str) -> None:
    plain.control(lost_answer={"next": 1, "how": how})
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError, httpx.ReadTimeout)):
        api.post("/v1/predictions", json=BODY, timeout=0.5)
    assert plain.ledger()["created"] == 1
    assert [row["input"] for row in api.get("/v1/predictions").json()["results"]] == [{"text": "x"}]


def test_a_lost_answer_may_be_a_502(plain: RunningSimulator, api: httpx.Client) -> None:
    plain.control(lost_answer={"next": 1, "how": "502"})
    assert api.post("/v1/predictions", json=BODY).status_code == 502
    assert plain.ledger()["created"] == 1


def test_a_refused_create_is_refused_also_when_answers_are_lost(plain: RunningSimulator, api: httpx.Client) -> None:
    plain.control(lost_answer=1.0)
    assert api.post("/v1/predictions", json={"version": "a/b"}).status_code == 422


@pytest.mark.parametrize("fault", ["reset", "hang"])
def test_no_answer_and_no_effect(plain: RunningSimulator, api: httpx.Client, fault: Any) -> None:
    plain.control(**{fault: {"next": 1}})
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError, httpx.ReadTimeout)):
        api.post("/v1/predictions", json=BODY, timeout=0.5)
    assert plain.ledger()["created"] == 0
    assert api.post("/v1/predictions", json=BODY).status_code == 201


def test_a_hang_may_end_in_a_reset(plain: RunningSimulator, api: httpx.Client) -> None:
    plain.control(no_answer={"next": 1, "seconds": 0.05})
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        api.get("/v1/account")


def test_a_late_answer_has_its_effect_before(plain: RunningSimulator, api: httpx.Client) -> None:
    plain.control(late_answer={"next": 1, "seconds": 30})
    with pytest.raises(httpx.ReadTimeout):
        api.post("/v1/predictions", json=BODY, timeout=0.5)
    assert plain.ledger()["created"] == 1


def test_a_delayed_call_is_answered(plain: RunningSimulator, api: httpx.Client) -> None:
    plain.control(delay={"next": 1, "seconds": 0.05})
    assert api.post("/v1/predictions", json=BODY).status_code == 201


def test_a_call_delayed_over_a_reset_has_no_effect(plain: RunningSimulator, api: httpx.Client) -> None:
    plain.control(delay={"next": 1, "seconds": 0.3})
    failures = []

    def post() -> None:
        try:
            api.post("/v1/predictions", json=BODY)
        except httpx.TransportError as error:
            failures.append(error)

    other = threading.Thread(target=post)
    other.start()
    while not plain.ledger()["faults"]:
        time.sleep(0.01)
    plain.reset()
    other.join()
    assert len(failures) == 1
    assert plain.ledger()["created"] == 0


@pytest.mark.parametrize(("fault", "status"), [("unauthorized", 401), ("payment_required", 402), ("429", 429)])
def test_the_account_may_be_refused(plain: RunningSimulator, api: httpx.Client, fault: Any, status: int) -> None:
    plain.control(**{fault: {"next": 1}})
    assert [api.post("/v1/predictions", json=BODY).status_code for _ in range(2)] == [status, 201]


def test_kinds_say_which_calls_are_hit(plain: RunningSimulator, api: httpx.Client) -> None:
    plain.control(error={"rate": 1.0, "kinds": ["list"], "status": 503})
    assert api.get("/v1/predictions").status_code == 503
    assert api.get("/v1/account").status_code == 200
    plain.control(error=0)
    assert api.get("/v1/predictions").status_code == 200


def test_faults_are_seen_and_cleared(plain: RunningSimulator, api: httpx.Client) -> None:
    assert plain.control(failed=0.5)["failed"] == {"rate": 0.5, "next": 0, "kinds": ["create"]}
    assert set(plain.control(hang=0.1)) == {"failed", "hang"}
    plain.clear()
    assert api.get("/control/faults").json() == {}


@pytest.mark.parametrize(
    "fault",
    [
        {"nonsense": 1},
        {"error": 2},
        {"error": -1},
        {"error": "often"},
        {"error": {"next": -1}},
        {"error": {"rate": 1, "kinds": ["dance"]}},
    ],
)
def test_a_wrong_fault_is_refused(api: httpx.Client, fault: Any) -> None:
    assert api.post("/control/faults", json=fault).status_code == 422
    assert api.get("/control/faults").json() == {}


@pytest.mark.parametrize("name", FAULTS)
def test_a_rate_is_kept_and_seeded(name: str) -> None:
    (kind, *_) = FAULTS[name]
    runs = []
    for _ in range(2):
        faults = Faults(SeededRandom(7), {name: 0.25})
        runs.append([faults.strike(name, kind) is not None for _ in range(2000)])
    assert runs[0] == runs[1]
    assert 400 < sum(runs[0]) < 600


def test_the_next_calls_are_hit_and_then_the_rate_goes_on() -> None:
    faults = Faults(SeededRandom(1), {"hang": {"next": 2, "rate": 0.0001}})
    assert [faults.strike("hang", "get") is not None for _ in range(4)] == [True, True, False, False]
    assert faults.armed()["hang"]["next"] == 0
    assert faults.strike("hang", "output") is None


def test_a_fault_as_a_flag() -> None:
    assert from_flag("hang=0.5") == ("hang", 0.5)
    assert from_flag('hang={"next": 2}') == ("hang", {"next": 2})
    assert from_flag("hang") == ("hang", 1)
    with pytest.raises(ValueError, match="Expecting"):
        from_flag("hang=often")
    with pytest.raises(Problem):
        Faults(SeededRandom(1), dict([from_flag("nothing=1")]))
