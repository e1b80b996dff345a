from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.schedules.cron import LocalZone, check_cron, label, last_fire, next_fire, shown, zone

NEVER = "0 0 */31 * 1#5"
"""The first of a month (a starred day goes together with the weekday) that is its fifth Monday."""
BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Antarctica/Troll", "Asia/Kathmandu"]


def at(text: str) -> float:
    """Unix seconds of an RFC 3339 time."""
    return datetime.fromisoformat(text).timestamp()


def fires(cron: str, since: str, until: str) -> list[str | None]:
    """Return what fires in Berlin between two moments when looked at every minute, as a worker would see it."""
    seen: list[float] = []
    for moment in range(int(at(since)), int(at(until)) + 1, 60):
        last = last_fire(cron, BERLIN, moment)
        if last is not None and last > at(since) and last not in seen:
            seen.append(last)
    return [shown(fire, BERLIN) for fire in seen]


@pytest.fixture
def machine_in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_the_last_and_the_next_time_lie_around_now() -> None:
    now = at("2026-11-21T12:00:00+01:00")
    assert shown(last_fire("0 2 * * *", BERLIN, now), BERLIN) == "2026-11-21T02:00:00+01:00"
    assert shown(next_fire("0 2 * * *", BERLIN, now), BERLIN) == "2026-11-22T02:00:00+01:00"


@pytest.mark.parametrize("fraction", [0, 0.001, 0.999])
def test_a_time_is_due_from_its_very_second_on(fraction: float) -> None:
    due = at("2026-11-21T02:00:00+01:00")
    assert last_fire("0 2 * * *", BERLIN, due + fraction) == due
    assert last_fire("0 2 * * *", BERLIN, due - 1 + fraction) == due - 86_400
    assert next_fire("0 2 * * *", BERLIN, due - 1 + fraction) == due
    assert next_fire("0 2 * * *", BERLIN, due + fraction) == due + 86_400


def test_a_time_that_spring_leaves_out_fires_when_the_clock_has_jumped() -> None:
    assert fires("30 2 * * *", "2026-03-28T03:00:00+01:00", "2026-03-30T04:00:00+02:00") == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]


def test_a_time_that_autumn_repeats_fires_once() -> None:
    assert fires("30 2 * * *", "2026-10-24T12:00:00+02:00", "2026-10-26T04:00:00+01:00") == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]


def test_each_half_hour_goes_on_through_the_repeated_hour() -> None:
    assert fires("*/30 * * * *", "2026-10-25T02:00:00+02:00", "2026-10-25T03:00:00+01:00") == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T02:30:00+01:00",
        "2026-10-25T03:00:00+01:00",
    ]


def test_in_the_repeated_hour_the_next_time_is_not_in_the_past() -> None:
    now = at("2026-10-25T02:10:00+01:00")
    assert shown(next_fire("30 2 * * *", BERLIN, now), BERLIN) == "2026-10-26T02:30:00+01:00"


def test_labels_differ_also_in_the_repeated_hour() -> None:
    first, second = at("2026-10-25T02:30:00+02:00"), at("2026-10-25T02:30:00+01:00")
    assert label(first, BERLIN) == "2026-10-25T0230"
    assert label(second, BERLIN) == "2026-10-25T0230b"
    assert label(second, UTC) == "2026-10-25T0130"


@settings(deadline=None)
@given(
    cron=st.sampled_from(["* * * * *", "0 2 * * *", "*/20 1-3 * * *", "15,45 1,2 * * *", "30 2 29 3 *", "0 0 * * 1#2"]),
    zone_name=st.sampled_from(ZONES),
    now=st.one_of(
        st.integers(at_ := int(at("2026-03-28T12:00:00+00:00")), at_ + 2 * 86_400),
        st.integers(at_ := int(at("2026-10-24T12:00:00+00:00")), at_ + 9 * 86_400),
        st.floats(1.7e9, 2e9),
    ),
)
def test_last_and_next_agree(cron: str, zone_name: str, now: float) -> None:
    place = ZoneInfo(zone_name)
    last, following = last_fire(cron, place, now), next_fire(cron, place, now)
    assert last is not None
    assert following is not None
    assert last <= now < following
    assert last_fire(cron, place, last) == last
    assert last_fire(cron, place, following) == following
    assert last_fire(cron, place, following - 1) == last


@settings(deadline=None)
@given(cron=st.sampled_from(["*/10 * * * *", "5,35 * * * *"]), zone_name=st.sampled_from(ZONES))
def test_no_two_times_have_one_label(cron: str, zone_name: str) -> None:
    place, now, labels = ZoneInfo(zone_name), at("2026-10-24T20:00:00+00:00"), list[str]()
    for _ in range(100):
        following = next_fire(cron, place, now)
        assert following is not None
        labels.append(label(following, place))
        now = following
    assert len(set(labels)) == len(labels)


def test_the_29th_of_february_is_found_years_away() -> None:
    now = at("2026-11-21T12:00:00+00:00")
    assert shown(last_fire("0 0 29 2 *", UTC, now), UTC) == "2024-02-29T00:00:00+00:00"
    assert shown(next_fire("0 0 29 2 *", UTC, now), UTC) == "2028-02-29T00:00:00+00:00"


def test_what_never_fires_has_no_times() -> None:
    assert last_fire(NEVER, UTC, 1.8e9) is next_fire(NEVER, UTC, 1.8e9) is None
    assert shown(None, UTC) is None


@pytest.mark.usefixtures("machine_in_berlin")
@pytest.mark.parametrize("month", range(1, 13))
def test_the_machines_zone_is_like_the_zone_of_that_name(month: int) -> None:
    local = LocalZone()
    for hour in range(31 * 24):
        moment = datetime(2026, month, 1, tzinfo=UTC).timestamp() + hour * 3600
        here, there = datetime.fromtimestamp(moment, local), datetime.fromtimestamp(moment, BERLIN)
        assert (here.isoformat(), here.fold, here.timestamp()) == (there.isoformat(), there.fold, moment)


@pytest.mark.usefixtures("machine_in_berlin")
@pytest.mark.parametrize("find", [last_fire, next_fire])
@pytest.mark.parametrize(
    "moment", ["2026-03-29T03:00:00+02:00", "2026-10-25T02:10:00+01:00", "2026-07-01T00:00:00+02:00"]
)
def test_without_a_zone_the_machines_own_counts(find: Callable[..., float | None], moment: str) -> None:
    assert find("30 2 * * *", zone(None), at(moment)) == find("30 2 * * *", BERLIN, at(moment))
    assert str(zone(None)) == datetime.fromtimestamp(0, zone(None)).tzname() == "local"
    assert zone(None).utcoffset(None) is zone(None).dst(None) is None


@pytest.mark.parametrize(
    "name", ["", "Europe", "Mars/Olympus", "../UTC", "/etc/localtime", "UTC+1", "\x00", "Europe/Berlin/x"]
)
def test_an_unknown_zone_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone") as caught:
        zone(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    "cron", ["0 2 * * *", "*/5 9-17 * * mon-fri", "0 0 L * *", "0 0 LW * *", "0 0 * * 5L", "  0 2 * * *  "]
)
def test_a_good_expression_passes(cron: str) -> None:
    check_cron(cron)


@pytest.mark.parametrize(
    ("cron", "reason"),
    [
        ("0 0 2 * * *", "has 6 fields; cron takes five"),
        ("@daily", "has 1 field; cron takes five"),
        ("", "has 0 fields"),
        ("60 * * * *", "bad minute"),
        ("* 24 * * *", "bad hour"),
        ("* * 0 * *", "bad day-of-month"),
        ("* * * 13 *", "bad month"),
        ("* * * * 8", "bad day-of-week"),
        ("0 0 31 2 *", "bad day-of-month"),
        ("0 0 31 2,4 *", "bad day-of-month"),
        (f"{'9' * 5000} * * * *", "is not a cron expression"),
        (NEVER, "never fires"),
        ("0 0 L/L * *", "bad day-of-month"),
    ],
)
def test_a_bad_expression_is_explained(cron: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_cron(cron)


@settings(deadline=None)
@given(st.lists(st.text("0123456789*/,-#LWSUNMONJAN ", max_size=6), min_size=5, max_size=5).map(" ".join))
def test_any_expression_is_good_or_a_value_error(cron: str) -> None:
    try:
        check_cron(cron)
    except ValueError as error:
        assert repr(cron) in str(error)  # noqa: PT017 - passing is as good
    else:
        assert next_fire(cron, BERLIN, 1.79e9) is not None
