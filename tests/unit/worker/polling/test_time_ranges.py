from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from jobs.replicate_api.predictions import PAGE_ROWS
from worker.polling.time_ranges import STEP, Segment, TimeRange, segments, select, split

TIMES = st.floats(0, 10_000).map(lambda at: round(at, 3))
KNOWN = st.lists(st.builds(Segment, TIMES, st.integers(0, PAGE_ROWS)), max_size=60).map(
    lambda found: sorted(found, key=lambda one: one.start)
)


@given(TIMES, KNOWN, st.lists(TIMES, max_size=300))
def test_ranges_leave_no_gap_and_do_not_overlap(since: float, known: list[Segment], new: list[float]) -> None:
    ranges = split(since, known, new)
    assert ranges[0].since == since
    assert ranges[-1].until is None
    assert all(one.until == following.since and one.since < following.since for one, following in pairwise(ranges))


@given(TIMES, st.lists(TIMES, max_size=600, unique=True))
def test_a_range_has_a_page_and_no_two_neighbours_would_fit_on_one(since: float, new: list[float]) -> None:
    ranges = split(since, [], [at for at in new if at >= since])
    assert all(one.rows <= PAGE_ROWS for one in ranges)
    assert all(one.rows + following.rows > PAGE_ROWS for one, following in pairwise(ranges))


@given(st.lists(TIMES, min_size=1, max_size=700, unique=True), st.lists(TIMES, max_size=300), st.integers(1, 80))
def test_what_a_pass_learned_is_exact_in_the_next_one(old: list[float], later: list[float], ended: int) -> None:
    """However rows were spread, ranges of the next pass have at most a page of those that were there."""
    rows = sorted(old)
    learned = segments(TimeRange(0, None, 0), rows[::-1][STEP - 1 :: STEP], len(rows), is_read_whole=True)
    since = rows[min(ended, len(rows)) - 1]
    for one in split(since, learned, [10_000 + at for at in later]):
        there = one.count([*rows, *sorted(10_000.001 + at for at in later)])
        assert there <= PAGE_ROWS + STEP, "ties apart, which the times here do not have"


@given(TIMES, KNOWN, st.lists(TIMES, max_size=50).map(sorted), st.integers(1, 50))
def test_what_is_not_selected_shows_at_most_one(
    since: float, known: list[Segment], wanted: list[float], most: int
) -> None:
    ranges = split(since, known, [])
    chosen = select(ranges, wanted, most)
    assert ranges[-1] in chosen
    assert len(chosen) <= most
    if len(chosen) < most:
        assert all(one.count(wanted) <= 1 for one in ranges if one not in chosen)


def test_segments_of_a_range_that_was_read_in_part() -> None:
    whole = TimeRange(100.0, 200.0, 150)
    starts = [190.0, 180.0]
    assert segments(whole, starts, 25, is_read_whole=True) == [
        Segment(100.0, 5), Segment(180.0, STEP), Segment(190.0, STEP),
    ]  # fmt: skip
    assert segments(whole, starts, 25, is_read_whole=False)[0] == Segment(100.0, 130)
    assert segments(whole, [], 0, is_read_whole=True) == [Segment(100.0, 0)]
