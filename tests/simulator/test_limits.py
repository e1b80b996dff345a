"""The three kinds of limiter, by themselves and over HTTP."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.answers import Problem
from simulator.limits import FixedWindow, Limits, SlidingWindow, TokenBucket
from simulator.process import RunningSimulator
from simulator.randomness import SeededRandom
from simulator.settings import Settings

gaps = st.lists(st.floats(0, 2), min_size=1, max_size=200)


def admitted(limiter: Any, gaps: list[float]) -> list[float]:
    now, times = 1000.0, []
    for gap in gaps:
        now += gap
        remaining = limiter.remaining(now)
        wait = limiter.take(now)
        assert (wait == 0) == (remaining > 0)
        if wait == 0:
            times.append(now)
    return times


def most_within(times: list[float], seconds: float) -> int:
    return max((sum(start <= time < start + seconds for time in times) for start in times), default=0)


@given(gaps, st.integers(1, 10), st.booleans())
def test_a_sliding_window_never_admits_more_than_its_limit(gaps: list[float], limit: int, counted: Any) -> None:
    times = admitted(SlidingWindow(limit, 5.0, rejected_count=counted), gaps)
    assert most_within(times, 5.0 - 1e-6) <= limit


@given(gaps, st.integers(1, 10))
def test_a_fixed_window_admits_at_most_its_limit_twice_over(gaps: list[float], limit: int) -> None:
    times = admitted(FixedWindow(limit, 5.0), gaps)
    assert most_within(times, 5.0 - 1e-6) <= 2 * limit
    first = 1000.0 + gaps[0]
    assert sum(time < first + 5.0 - 1e-6 for time in times) <= limit


@given(gaps, st.integers(1, 10), st.integers(1, 10), st.booleans())
def test_a_bucket_admits_its_burst_and_then_its_rate(gaps: list[float], limit: int, burst: int, counted: Any) -> None:
    times = admitted(TokenBucket(limit, 5.0, burst, rejected_count=counted), gaps)
    for index, start in enumerate(times):
        for count, stop in enumerate(times[index:], 1):
            assert count <= burst + (stop - start) * limit / 5.0 + 1e-6


@pytest.mark.parametrize("limiter", [SlidingWindow(2, 5, rejected_count=False), FixedWindow(2, 5)])
def test_a_window_says_when_to_come_again(limiter: Any) -> None:
    assert [limiter.take(0.0), limiter.take(1.0), limiter.take(2.0)] == [0, 0, 3]
    assert limiter.take(5.0) == 0


def test_a_bucket_says_when_to_come_again() -> None:
    bucket = TokenBucket(60, 60.0, 2, rejected_count=False)
    assert [bucket.take(0.0), bucket.take(0.0), bucket.take(0.5)] == [0, 0, 0.5]
    assert bucket.take(1.0) == 0


def test_rejected_calls_count_if_told_so() -> None:
    harsh, mild = (SlidingWindow(1, 5, rejected_count=counted) for counted in (True, False))
    for limiter in (harsh, mild):
        assert limiter.take(0.0) == 0
        assert limiter.take(4.0) > 0
    assert mild.take(6.0) == 0
    assert harsh.take(6.0) > 0


def test_rejected_calls_may_cost_tokens() -> None:
    harsh, mild = (TokenBucket(1, 5, 1, rejected_count=counted) for counted in (True, False))
    for bucket in (harsh, mild):
        assert bucket.take(0.0) == 0
        assert bucket.take(4.0) > 0
    assert mild.take(6.0) == 0
    assert harsh.take(6.0) > 0


@pytest.mark.parametrize("limiter", ["sliding", "fixed", "bucket"])
def test_over_the_limit_is_429(plain: RunningSimulator, api: httpx.Client, limiter: Any) -> None:
    plain.settings(limiter=limiter, limit_creates=2, limit_burst=2, limit_window=600.0)
    body = {"version": "simulator/text", "input": {}}
    answers = [api.post("/v1/predictions", json=body) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [201, 201, 429, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["1", "0", "0", "0"]
    assert {answer.headers["ratelimit-reset"] for answer in answers} == {"1"}
    assert re.fullmatch(r"Request was throttled. Your rate limit resets in ~\d+s.", answers[-1].json()["detail"])
    ledger = plain.ledger()
    assert (ledger["created"], ledger["throttled"], ledger["throttled_calls"]) == (2, 2, {"create": 2})
    assert api.get("/v1/account").status_code == 200


def test_a_short_window_opens_again(plain: RunningSimulator, api: httpx.Client) -> None:
    plain.settings(limiter="sliding", limit_reads=1, limit_window=0.2, limit_rejected=False)
    statuses: list[int] = []
    while statuses.count(200) < 2:
        statuses.append(api.get("/v1/account").status_code)
    assert set(statuses) == {200, 429}


def test_kinds_of_calls_have_limits_of_their_own(plain: RunningSimulator, api: httpx.Client) -> None:
    plain.settings(limiter="sliding", limit_creates=600, limit_reads=3000, limit_gets=60_000)
    made = api.post("/v1/predictions", json={"version": "simulator/text", "input": {}})
    answers = [made, api.get("/v1/predictions"), api.get(f"/v1/predictions/{made.json()['id']}"), api.get("/v1/files")]
    remaining = [answer.headers.get("ratelimit-remaining") for answer in answers]
    assert remaining == ["599", "2999", "59999", None]


def test_without_limiter_there_are_no_headers(api: httpx.Client) -> None:
    assert "ratelimit-remaining" not in api.get("/v1/account").headers


def test_low_credit_reduces_creates(plain: RunningSimulator, api: httpx.Client) -> None:
    plain.settings(limiter="sliding", credit=4.5)
    body = {"version": "simulator/text", "input": {}}
    answers = [api.post("/v1/predictions", json=body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 429]
    assert "reduced to 6 requests per minute with a burst of 1 requests" in answers[1].json()["detail"]
    assert answers[1].json()["retry_after"] == 10
    assert api.get("/v1/predictions").status_code == 200


@pytest.mark.parametrize(("form", "header", "field"), [("text", None, None), ("field", None, 3), ("header", "3", None)])
def test_a_throttle_storm(plain: RunningSimulator, api: httpx.Client, form: str, header: Any, field: Any) -> None:
    plain.control(throttle={"next": 1, "seconds": 3, "form": form})
    answer = api.get("/v1/account")
    assert answer.status_code == 429
    assert answer.headers.get("retry-after") == header
    assert answer.json().get("retry_after") == field
    assert "~3s" in answer.json()["detail"]
    assert api.get("/v1/account").status_code == 200


def test_the_form_of_a_429_is_a_matter_of_chance() -> None:
    limits = Limits(Settings(limit_creates=1, limit_window=60.0), SeededRandom(1))
    limits.take("create", 0.0, None)
    seen = set()
    for _ in range(40):
        with pytest.raises(Problem) as caught:
            limits.take("create", 1.0, None)
        seen.add(("retry-after" in caught.value.headers, "retry_after" in caught.value.body))
    assert seen == {(False, False), (True, False), (False, True)}
