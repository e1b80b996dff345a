"""What holds of each parser whatever it is given: it reads, or refuses in its own words, within its bounds."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import chain
from typing import Any

import pytest
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from jobs.errors import Problem, RateLimited
from jobs.prompts_file.reader import Defaults, Ids, Row, read_prompts
from jobs.replicate_api.refusals import refusal
from jobs.replicate_api.stated_wait import LONGEST_WAIT
from jobs.schedules.cron import check_cron, last_fire, next_fire
from worker.outputs.data_uri import parse

WAITS = st.integers(0, 10_000) | st.floats(0, 1e9).map(lambda seconds: round(seconds, 3))
JUNK = st.none() | st.booleans() | st.text(max_size=12) | st.floats() | st.lists(st.integers(), max_size=2)


def wait(headers: dict[str, str], body: Any) -> float | None:
    error = refusal(429, headers, json.dumps(body).encode())
    assert isinstance(error, RateLimited)
    return error.retry_after


@given(header=st.none() | WAITS, field=st.none() | WAITS, text=st.none() | WAITS, title=st.booleans())
def test_of_all_waits_that_a_429_names_the_longest_counts(
    header: float | None,
    field: float | None,
    text: float | None,
    *,
    title: bool,
) -> None:
    headers = {} if header is None else {"retry-after": str(header)}
    body: dict[str, Any] = {} if field is None else {"retry_after": field}
    if text is not None:
        body["title" if title else "detail"] = f"Your rate limit resets in ~{text:.3f}s."
    longest = max([given for given in (header, field, text) if given is not None], default=0.0)
    assert (wait(headers, body) or 0.0) == pytest.approx(min(longest, LONGEST_WAIT), abs=0.001)


@given(header=st.text(st.characters(codec="latin-1"), max_size=20), field=JUNK, detail=JUNK)
@example(header="-1", field=-1, detail="resets in 99999999999999999999999s")
@example(header="1e999", field=float("nan"), detail="resets in ~s")
@example(header="Thu, 01 Jan 0001 00:00:00 +2359", field=True, detail="")
def test_a_wait_is_bounded_whatever_names_it(header: str, field: Any, detail: Any) -> None:
    headers = {"retry-after": header, "date": header[::-1]}
    assert 0 <= (wait(headers, {"retry_after": field, "detail": detail}) or 0.0) <= LONGEST_WAIT


@given(now=st.integers(10_000, 4_000_000_000), seconds=st.integers(-5_000, 5_000))
def test_a_date_is_waited_for_by_the_clock_of_the_api(now: int, seconds: int) -> None:
    shown, until = (format_datetime(datetime.fromtimestamp(at, UTC), usegmt=True) for at in (now, now + seconds))
    assert (wait({"date": shown, "retry-after": until}, {}) or 0.0) == min(max(seconds, 0), LONGEST_WAIT)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)
PROMPTS = st.lists(TEXT.filter(str.strip), min_size=1, max_size=30)


@given(prompts=PROMPTS, cut=st.floats(0, 1), packed=st.booleans())
def test_of_a_file_that_was_cut_the_rows_before_the_cut_are_read_and_no_other(
    tmp_path_factory: pytest.TempPathFactory,
    prompts: list[str],
    cut: float,
    *,
    packed: bool,
) -> None:
    rows = [{"id": f"r{number}", "model": "o/n", "prompt": f"! {prompt}"} for number, prompt in enumerate(prompts)]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    data = gzip.compress(data) if packed else data
    path = tmp_path_factory.getbasetemp() / ("cut.jsonl.gz" if packed else "cut.jsonl")
    path.write_bytes(data[: int(cut * len(data))])
    found = list(chain.from_iterable(read_prompts(str(path), Defaults(), Ids())))
    whole = [json.loads(item.text) for item in found if isinstance(item, Row)]
    assert [row["id"] for row in whole] == [row["id"] for row in rows][: len(whole)]
    assert [row["input"]["prompt"] for row in whole] == [row["prompt"] for row in rows][: len(whole)]
    assert len(whole) == len(rows) or not packed or isinstance(found[-1], Problem)


@given(damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=5))
def test_a_damaged_gzip_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    data = bytearray(gzip.compress(b"".join(b'{"prompt": "%d"}\n' % (number**7) for number in range(300))))
    for place, value in damage:
        data[place % len(data)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.jsonl.gz"
    path.write_bytes(data)
    assert all(
        isinstance(item, Row | Problem) for item in chain.from_iterable(read_prompts(str(path), Defaults("o/n"), Ids()))
    )


@given(st.text(st.sampled_from("data:image/png;base64,=%;\"' \t\n,AZaz09+/-_\x00é"), max_size=60))
@example("data:;base64," + "A" * 100_000 + "=")
@example("data:" + ";a" * 10_000)
@example("data:" + ';a="' * 10_000)
def test_a_data_uri_is_never_larger_than_its_text(text: str) -> None:
    for candidate in (text, f"data:{text}"):
        parsed = parse(candidate)
        assert parsed is None or len(parsed.content) <= len(candidate.encode("utf-8", "surrogatepass"))
        assert parsed is None or candidate.startswith(parsed.head)


@settings(deadline=None)
@given(
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    day=st.none() | st.integers(1, 31),
    month=st.none() | st.integers(1, 12),
    now=st.integers(1_600_000_000, 2_000_000_000),
)
def test_a_schedule_fires_when_it_says_and_at_no_other_time(
    minute: int, hour: int, day: int | None, month: int | None, now: int
) -> None:
    cron = f"{minute} {hour} {day or '*'} {month or '*'} *"
    try:
        check_cron(cron)
    except ValueError:
        reject()  # 30 February
    for fire in (next_fire(cron, UTC, now), last_fire(cron, UTC, now)):
        assert fire is not None
        moment = datetime.fromtimestamp(fire, UTC)
        assert (moment.minute, moment.hour, moment.second) == (minute, hour, 0)
        assert (day or moment.day, month or moment.month) == (moment.day, moment.month)
