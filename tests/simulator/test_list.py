from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.models.registry import MODELS
from simulator.predictions import Prediction, Predictions
from simulator.process import RunningSimulator

Create = Callable[..., dict[str, Any]]


def kept(times: list[float], keep: int = 10_000) -> Predictions:
    predictions = Predictions(keep)
    for number, created in enumerate(times):
        predictions.add(
            Prediction(
                id=predictions.next_id(),
                number=number,
                model=MODELS["simulator/text"],
                via="official",
                asked="simulator/text",
                input={},
                created=created,
                starts=created,
                finish=created,
            )
        )
    return predictions


@given(
    st.lists(st.integers(0, 50), max_size=350).map(sorted),
    st.none() | st.integers(0, 50),
    st.none() | st.integers(0, 50),
    st.sets(st.integers(0, 350), max_size=30),
)
def test_pages_walk_over_everything_once_and_back(
    times: list[int], after: int | None, before: int | None, hidden: set[int]
) -> None:
    predictions = kept([float(time) for time in times])
    options: dict[str, Any] = {"after": after, "before": before, "visible": lambda row: row.number not in hidden}
    pages = [predictions.page(cursor=None, **options)]
    while pages[-1].older:
        pages.append(predictions.page(cursor=pages[-1].older, **options))
    seen = [row.number for page in pages for row in page.rows]
    wanted = [
        number
        for number, time in enumerate(times)
        if number not in hidden and (after is None or time >= after) and (before is None or time < before)
    ]
    assert seen == wanted[::-1]
    assert all(len(page.rows) == 100 for page in pages[:-1])
    for newer, older in itertools.pairwise(pages):
        assert [row.number for row in predictions.page(cursor=older.newer, **options).rows] == [
            row.number for row in newer.rows
        ]


@given(st.integers(1, 60), st.integers(0, 200))
def test_the_oldest_are_forgotten(keep: int, count: int) -> None:
    predictions = kept([float(number) for number in range(count)], keep)
    rows = predictions.all()
    assert len(rows) <= keep
    assert [row.number for row in rows] == list(range(count - len(rows), count))
    assert all(predictions.get(row.id) is row for row in rows)
    assert predictions.count == count


def test_a_page_is_newest_first_and_its_links_are_whole_urls(api: httpx.Client, create: Create) -> None:
    made = [create("simulator/text", {"seed": i})["id"] for i in range(101)]
    first = api.get("/v1/predictions").json()
    assert [row["id"] for row in first["results"]] == made[:0:-1]
    assert first["previous"] is None
    assert first["next"].startswith(str(api.base_url))
    create("simulator/text", {"seed": 101})
    second = api.get(first["next"]).json()
    assert [row["id"] for row in second["results"]] == made[:1]
    assert all("logs" not in row for row in first["results"])


def test_rows_between_two_times(plain: RunningSimulator, api: httpx.Client, create: Create) -> None:
    made = []
    for seed in range(5):
        made.append(create("simulator/text", {"seed": seed}))
        plain.advance(10)
    query = {"created_after": made[1]["created_at"], "created_before": made[3]["created_at"]}
    page = api.get(f"/v1/predictions?{urlencode(query)}").json()
    assert [row["id"] for row in page["results"]] == [made[2]["id"], made[1]["id"]]
    offset = made[4]["created_at"].replace("Z", "+00:00")
    assert len(api.get("/v1/predictions", params={"created_after": offset}).json()["results"]) == 1


@pytest.mark.parametrize("query", ["created_after=yesterday", "created_before=x", "cursor=x", "cursor=b2xkZXI="])
def test_a_wrong_query_is_refused(api: httpx.Client, query: str) -> None:
    assert api.get(f"/v1/predictions?{query}").status_code == 422


def test_the_list_may_lag(plain: RunningSimulator, api: httpx.Client, create: Create) -> None:
    plain.control(list_lag={"rate": 1.0, "seconds": 5})
    made = create("simulator/text")
    assert api.get("/v1/predictions").json()["results"] == []
    assert api.get(made["urls"]["get"]).status_code == 200
    plain.advance(6)
    assert [row["id"] for row in api.get("/v1/predictions").json()["results"]] == [made["id"]]


def test_the_list_may_show_an_old_status(plain: RunningSimulator, api: httpx.Client, create: Create) -> None:
    create("simulator/text", {"predict_time": 10})
    plain.advance(12)
    plain.control(stale_list={"next": 1, "seconds": 5})
    seen = [api.get("/v1/predictions").json()["results"][0]["status"] for _ in range(2)]
    assert seen == ["processing", "succeeded"]
