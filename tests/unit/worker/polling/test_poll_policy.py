from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.polling import poll_policy as policy
from worker.polling.poll_policy import PassFacts, Timing

HOUR, DAY = 3600.0, 86400.0


@pytest.mark.parametrize(
    ("since_seen", "age", "least", "missed", "most", "due"),
    [
        (0.4, 0.0, 0.5, 0, 5.0, False),  # the shortest pause holds for all
        (0.5, 0.0, 0.5, 0, 5.0, True),
        (0.9, 10.0, 0.5, 0, 5.0, False),  # a tenth of its age
        (1.0, 10.0, 0.5, 0, 5.0, True),
        (4.9, HOUR, 0.5, 0, 5.0, False),  # but every 5 s
        (5.0, HOUR, 0.5, 0, 5.0, True),
        (0.5, HOUR, 0.5, 1, 5.0, True),  # one that was not found is looked for quickly
        (0.5, HOUR, 0.5, 0, 0.0, True),  # and so is an overdue one
    ],
)
def test_the_older_it_is_the_less_often_it_is_polled(
    since_seen: float, age: float, least: float, missed: int, most: float, *, due: bool
) -> None:
    assert policy.is_due(since_seen, age, least, missed=missed, most=most) is due


@pytest.mark.parametrize(
    ("age", "deadline", "overdue", "gone"),
    [
        (HOUR + 60, HOUR, False, False),
        (HOUR + 61, HOUR, True, False),
        (2 * HOUR + 60, HOUR, True, False),
        (2 * HOUR + 61, HOUR, True, True),
    ],
)
def test_overdue_a_minute_after_the_deadline_and_gone_an_hour_later(
    age: float, deadline: float, *, overdue: bool, gone: bool
) -> None:
    assert (policy.is_overdue(age, deadline, Timing()), policy.is_gone(age, deadline, Timing())) == (overdue, gone)


@pytest.mark.parametrize(
    ("missed", "age", "missing"), [(2, HOUR, False), (3, 60.0, False), (3, 61.0, True), (9, 5.0, False)]
)
def test_what_is_not_known_is_missing_only_after_three_answers_and_a_minute(
    missed: int, age: float, *, missing: bool
) -> None:
    assert policy.is_missing(missed, age) is missing


@pytest.mark.parametrize(
    ("in_flight", "trusted", "elsewhere", "listed"),
    [
        (4, True, False, False),
        (5, True, False, True),
        (1, True, True, True),  # the leader reads the list for all
        (500, False, False, False),
        (500, False, True, False),
    ],
)
def test_many_are_polled_by_the_list_while_it_is_trusted(
    in_flight: int, *, trusted: bool, elsewhere: bool, listed: bool
) -> None:
    assert policy.uses_list(in_flight, is_trusted=trusted, is_read_elsewhere=elsewhere) is listed


@pytest.mark.parametrize(("reads", "interval", "most"), [(3000, 0.5, 2), (600, 0.5, 1), (60_000, 1.0, 100)])
def test_half_of_the_read_budget_is_for_polls_by_id(reads: float, interval: float, most: int) -> None:
    assert policy.polls_per_tick(reads, interval) == most


@pytest.mark.parametrize(("ended_at", "listed_at", "hidden"), [(100.0, 105.0, False), (100.0, 105.1, True)])
def test_a_list_may_be_five_seconds_behind(ended_at: float, listed_at: float, *, hidden: bool) -> None:
    assert policy.is_hidden(ended_at, listed_at, Timing()) is hidden


def test_what_was_intended_a_moment_ago_was_just_created() -> None:
    assert policy.is_just_created(4.9)
    assert not policy.is_just_created(5.0)


@pytest.mark.parametrize(
    ("span", "unseen", "pages", "worth"),
    [
        ((100.0, 90.0), [], 1, False),
        ((100.0, 90.0), [89.0], 1, False),  # one request shows one: a GET does too
        ((100.0, 90.0), [89.0, 88.0], 1, True),  # a page of 10 s shows two
        ((100.0, 90.0), [79.0, 78.0], 1, False),  # they are on the page after the next
        ((100.0, 80.0), [79.0, 78.0], 2, True),
        ((100.0, 90.0), [79.0, 78.0, 77.0], 1, True),
        ((100.0, 100.0), [99.0, 98.0], 1, False),  # rows of one moment: it is unknown how far back they are
        (None, [1.0], 1, False),
        (None, [1.0, 2.0], 1, True),
    ],
)
def test_another_page_is_read_when_it_shows_more_than_it_costs(
    span: tuple[float, float] | None, unseen: list[float], pages: int, *, worth: bool
) -> None:
    assert policy.is_worth_another_page(span, unseen, pages) is worth


@pytest.mark.parametrize(
    ("facts", "pause"),
    [
        (PassFacts(pages=1, ended=10, oldest=60.0, last=1.0), 0.4),  # sqrt(2 * 0.8 * 1 * 1 / 10)
        (PassFacts(pages=1, ended=1000, oldest=60.0, last=1.0), 0.125),  # a quarter of the interval a page, at least
        (PassFacts(pages=1, ended=0, oldest=60.0, last=3.0), 2.0),  # four intervals at most
        (PassFacts(pages=1, ended=0, oldest=2.0, last=3.0), 1.0),  # half of what the oldest has run
        (PassFacts(pages=1, ended=10, oldest=60.0, last=900.0), 0.2828),  # nobody waited meanwhile: as after 0.5 s
        (PassFacts(pages=40, ended=4000, oldest=60.0, last=1.0), 1.6),  # within half of the read budget
    ],
)
def test_the_pause_costs_least_together_with_the_waiting(facts: PassFacts, pause: float) -> None:
    assert policy.pause_after(facts, 0.5, 3000) == pytest.approx(pause, abs=0.01)


@given(
    st.builds(
        PassFacts,
        pages=st.integers(1, 100),
        ended=st.integers(0, 10_000),
        oldest=st.floats(0, DAY),
        last=st.floats(0, DAY),
    ),
    st.floats(0.05, 10),
    st.floats(6, 60_000),
)
def test_passes_never_take_more_than_half_of_the_read_budget(facts: PassFacts, interval: float, reads: float) -> None:
    pause = policy.pause_after(facts, interval, reads)
    assert facts.pages / pause <= reads / 60 / 2 * 1.000001
    assert pause >= interval * min(facts.pages / 4, 1.5) * 0.999999
