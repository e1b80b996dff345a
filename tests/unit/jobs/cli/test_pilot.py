from __future__ import annotations

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from jobs.cli.pilot import cost_line, pilot_order, project_costs, project_count, project_seconds
from jobs.enqueue.order import Order
from jobs.wire import Result


def results(*costs: float | None) -> list[Result]:
    return [
        Result(id=str(index), index=index, status="succeeded", model="a/b", input={}, cost=cost)
        for index, cost in enumerate(costs)
    ]


@pytest.mark.parametrize(
    ("costs", "total", "said"),
    [
        (
            (0.003, 0.003),
            1000,
            "Pilot: 2 of 1000 prompts cost $0.006; all 1,000, these included, will cost about $3.00",
        ),
        ((0.5,), 10, "Pilot: 1 of 10 prompts cost $0.50; all 10, these included, will cost about $5.00"),
        ((0.1, 0.3), 2, "Pilot: 2 of 2 prompts cost $0.40; all 2, these included, will cost about $0.40"),
        ((0.1, None), 2, "Pilot: 2 of 2 prompts; what they cost is not known"),
        ((), 2, "Pilot: 0 of 2 prompts; what they cost is not known"),
    ],
)
def test_a_pilot_tells_what_all_cost(costs: tuple[float | None, ...], total: int, said: str) -> None:
    assert cost_line(results(*costs), total).startswith(said)


def test_a_spread_is_said() -> None:
    assert cost_line(results(0.1, 0.2, 0.3), 100).endswith("about $20.00, most likely between $8.63 and $31.37")


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=20), st.integers(0, 10**6))
def test_a_projection_lies_in_its_spread(costs: list[int], more: int) -> None:
    total = len(costs) + more
    low, about, high = project_costs(costs, total)
    assert sum(costs) <= low <= about <= high
    if not more:
        assert low == about == high == sum(costs)


@pytest.mark.parametrize(
    ("per_minute", "in_flight", "seconds"), [(600, 1000, 102), (60_000, 10, 202), (60_000, 100_000, 3)]
)
def test_the_time_is_that_of_the_narrowest_place(per_minute: float, in_flight: int, seconds: int) -> None:
    assert project_seconds([1.0, 3.0], 1000, per_minute, in_flight) == seconds


@pytest.mark.parametrize(
    ("seconds", "per_minute", "in_flight", "possible"),
    [
        ([], 600, 1000, 36_000),
        ([10.0, 30.0], 600, 1000, 35_800),
        ([10.0, 30.0], 600, 20, 3580),
        ([7200.0], 600, 1000, 0),
    ],
)
def test_how_many_prompts_end_within_an_hour(
    seconds: list[float], per_minute: float, in_flight: int, possible: int
) -> None:
    assert project_count(seconds, 3600, per_minute, in_flight) == possible


@given(st.lists(st.floats(0.1, 100), min_size=1), st.integers(1, 10**5), st.floats(1, 10**4), st.integers(1, 1000))
def test_what_takes_so_long_is_done_by_then(
    seconds: list[float], total: int, per_minute: float, in_flight: int
) -> None:
    needed = project_seconds(seconds, total, per_minute, in_flight)
    assert project_count(seconds, needed + 1, per_minute, in_flight) >= total - 1


def test_a_pilot_has_something_to_go_on_with() -> None:
    assert pilot_order(Order("a.jsonl"), 10).limit == 10
    assert pilot_order(Order("a.jsonl"), 10, 7) == Order("a.jsonl", limit=10, pick=7)
    with pytest.raises(typer.BadParameter, match="it needs --pilot"):
        pilot_order(Order("a.jsonl"), None, 7)
    assert pilot_order(Order("a.jsonl", limit=3), None).limit == 3
    for order in (Order("a.jsonl", limit=3), Order("-", name="x")):
        with pytest.raises(typer.BadParameter):
            pilot_order(order, 10)
