from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.account.account import ModelPause
from jobs.batch_folder.folder import Folder
from jobs.batch_folder.rows.totals import Totals
from jobs.cli import tables
from jobs.enqueue.enqueue import Checked
from jobs.enqueue.sharding import Receipt
from jobs.operations import report
from jobs.printer import Printer
from jobs.schedules.scheduler import ScheduleMiss, ScheduleStatus
from jobs.terminal import as_json
from jobs.text import printable
from jobs.wire import Failure, Result, Status
from tests.unit.jobs.cli.pictures import a_status, drawn

CREATED = datetime(2026, 11, 21, 2, 3, 4, tzinfo=UTC).timestamp()
START = "python -m arq worker.Settings"


def a_receipt(**facts: Any) -> Receipt:
    basis = {"batch": "prompts", "total": 250, "enqueued": 250, "already_done": 0, "shards": 3, "workers": 1}
    return Receipt.model_validate({**basis, **facts})


@given(st.text())
def test_printable_text_steers_no_terminal(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert all(c == "\n" or c.isprintable() for c in shown)
    shown.encode("utf-8")


def test_printable_leaves_what_people_write() -> None:
    assert printable("Füße, 猫 und 🐈\nnext") == "Füße, 猫 und 🐈\nnext"
    assert printable("\x1b[2J\x07\ud800") == "�[2J��"


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({}, "prompts: 250 prompts enqueued in 3 shards"),
        (
            {"enqueued": 1, "shards": 1, "already_done": 249},
            "prompts: 1 prompt enqueued in 1 shard, 249 done already; 250 in all",
        ),
        ({"cost_at_least": 0.75, "cost_at_most": 0.75}, "prompts: 250 prompts enqueued in 3 shards; costs $0.75"),
        (
            {"enqueued": 1, "shards": 1, "cost_at_least": 0.0, "cost_at_most": 1.5},
            "prompts: 1 prompt enqueued in 1 shard; 250 in all; what is left costs at least $0.00, at most $1.50",
        ),
        ({"enqueued": 0, "shards": 0, "already_done": 9}, "prompts: nothing new to enqueue; 9 of 250 done"),
        (
            {"enqueued": 0, "shards": 0, "already_done": 250},
            "prompts: 250 prompts, all done already; nothing was enqueued",
        ),
    ],
)
def test_a_receipt_in_one_line(facts: dict[str, Any], line: str) -> None:
    assert report.receipt_line(a_receipt(**facts)) == line
    assert next(iter(report.receipt_lines(a_receipt(**facts)))) == line


def test_a_receipt_says_that_no_worker_is_up_when_one_is_needed() -> None:
    assert START in list(report.receipt_lines(a_receipt(workers=0)))[1]
    assert list(report.receipt_lines(a_receipt()))[1] == "`python -m jobs watch prompts` follows it"
    _, done = report.receipt_lines(a_receipt(workers=0, enqueued=0, already_done=250))
    assert done == report.results_note("prompts")


def test_notes_are_said_once_and_only_of_unfinished_batches() -> None:
    paused = a_status(state="paused", reason="402", workers=0)
    ended = a_status(state="finished", finished_at="2026-11-21T03:00:00.000Z", workers=0, reason="old")
    assert list(report.notes([paused, paused, ended])) == [
        "Paused: 402. `python -m jobs resume` lifts it.",
        report.NO_WORKER,
    ]
    assert list(report.notes([ended])) == []
    stuck = [a_status(batch="a", reason="the disk is full"), a_status(batch="b", reason="the disk is full")]
    assert list(report.notes(stuck)) == ["a, b: the disk is full"]


def test_a_note_says_which_api_host_it_is_about() -> None:
    there = a_status(batch="try", workers=0, elsewhere=True, api_host="127.0.0.1:5555")
    here = a_status(api_host="api.replicate.com")
    assert list(report.notes([here, there, there.model_copy(update={"batch": "other"})])) == [
        (
            "try, other: no worker is up for 127.0.0.1:5555; "
            "one that is started with these settings works for another API host"
        )
    ]
    paused = there.model_copy(update={"state": "paused", "reason": "402", "workers": 1})
    assert list(report.notes([here, paused])) == [
        "Paused at 127.0.0.1:5555, which is not the API host of these settings: 402. `python -m jobs resume` lifts it."
    ]
    assert "elsewhere" not in json.loads(as_json(there))


def test_what_very_many_batches_share_is_said_in_one_line() -> None:
    many = [a_status(batch=f"b{number}", reason="the disk is full") for number in range(50)]
    assert list(report.notes(many)) == ["b0, b1, b2, b3, b4 and 45 more: the disk is full"]


@pytest.mark.parametrize(
    ("facts", "state", "shows_pace"),
    [
        ({"in_flight": 3}, "running", True),
        ({}, "running", True),
        ({"workers": 0, "in_flight": 3}, "waiting", False),
        ({"reasons": ["model a/b is paused"]}, "waiting", False),
        ({"reasons": ["model a/b is paused"], "in_flight": 1}, "running", True),
        ({"state": "paused", "reasons": ["402"]}, "paused", False),
        ({"state": "queued", "workers": 0}, "queued", True),
        ({"finished_at": "2026-11-21T03:00:00.000Z", "state": "finished", "workers": 0}, "finished", False),
    ],
)
def test_a_batch_that_does_not_go_on_is_not_said_to_run(facts: dict[str, Any], state: str, *, shows_pace: bool) -> None:
    status = a_status(rate_per_minute=60, eta=10, **facts)
    assert report.shown_state(status) == state
    assert bool(report.pace(status)) == shows_pace
    assert report.status_line(status).startswith(f"prompts: {state}, ")


def test_a_check_says_what_a_file_would_cost() -> None:
    assert list(report.check_lines("f.jsonl", Checked(total=2))) == ["f.jsonl: 2 prompts, no error"]
    assert list(report.check_lines("f.jsonl", Checked(total=2, files=1, file_bytes=30_000_000_000))) == [
        "f.jsonl: 2 prompts with 1 file (30.0 GB), no error"
    ]
    priced = Checked(total=1, cost_at_least=0.003, cost_at_most=0.009)
    assert list(report.check_lines("f.jsonl", priced)) == [
        "f.jsonl: 1 prompt, no error; costs at least $0.003, at most $0.009"
    ]


def test_eight_models_without_a_price_are_one_line_with_the_part_of_the_cost_that_is_known() -> None:
    models = tuple(f"a/m{number}" for number in range(8))
    known = {"unpriced": [f"line 1: {model} has no price" for model in models], "unpriced_models": models}
    partial = report.check_lines("f.jsonl", Checked(total=9, cost_at_least=0.003, cost_is_partial=True, **known))
    none = "no price for a/m0, a/m1, a/m2, a/m3, a/m4 and 3 more"
    assert list(partial) == [
        f"f.jsonl: 9 prompts, no error; costs at least $0.003; {none}",
        "`python -m jobs prices fetch a/m0 a/m1 a/m2 a/m3 a/m4` reads missing prices",
    ]
    (first, _) = report.file_lines(a_receipt(enqueued=8, shards=1, **known))
    assert first == f"prompts: 8 prompts enqueued in 1 shard; 250 in all; {none}"
    other = Checked(total=1, unpriced=("no price", "the size is not known", "a", "b"), unpriced_models=("f" * 64,))
    assert list(report.check_lines("f.jsonl", other))[1:] == [
        "BATCH_PRICES and prices.toml have no price for them",
        "the size is not known; and 2 more, which `--json` lists",
    ]


BOTH = {"predictions": 9, "max_predictions": 10, "cost": 0.3, "max_cost": 5.0}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, []),
        ({"cost": 0.0123}, ["$0.0123"]),
        ({"cost": 0.0123, "cost_is_partial": True}, ["at least $0.0123"]),
        ({"predictions": 9}, []),
        (BOTH, ["9 of 10 predictions", "$0.30 of $5.00"]),
        ({"max_cost": 1.0}, ["$0.00 of $1.00"]),
    ],
)
def test_what_is_spent_stands_beside_what_may_be(facts: dict[str, Any], said: list[str]) -> None:
    assert list(report.spending(a_status(**facts))) == said
    assert list(report.facts(a_status(**facts))) == said


def test_what_is_lost_and_free_is_counted_apart() -> None:
    assert list(report.facts(a_status(output_lost=1, aborted=3))) == ["1 lost outputs", "3 aborted"]


def test_a_spent_budget_is_said_with_the_command_that_raises_it() -> None:
    assert list(report.notes([a_status(**BOTH)])) == []
    held = a_status(**BOTH | {"predictions": 10}, in_flight=2, waiting=8)
    assert list(report.notes([held])) == [
        (
            "prompts: the budget allows no more; what still waits will fail (10 of 10 predictions, $0.30 of $5.00). "
            "To continue with a higher one: python -m jobs retry prompts --max-predictions N --max-cost DOLLARS"
        )
    ]
    ended = a_status(max_cost=0.01, cost=0.009, over_budget=7, finished_at="2026-11-21T03:00:00.000Z", workers=0)
    assert list(report.notes([ended])) == [
        (
            "prompts: 7 prompts failed because the budget allows no more ($0.009 of $0.01). "
            "To continue with a higher one: python -m jobs retry prompts --max-cost DOLLARS"
        )
    ]
    assert list(report.notes([held.model_copy(update={"waiting": 0})])) == []
    done = ended.model_copy(update={"over_budget": 0, "cost": 0.01})
    assert list(report.notes([done])) == []


def test_a_batch_that_waits_shows_no_pace() -> None:
    assert report.status_line(a_status(state="queued")) == "prompts: queued, 0 of 10 done"


def test_the_table_of_batches() -> None:
    ended = a_status(batch="b", state="finished", finished_at="2026-11-21T03:00:00.000Z", succeeded=10, eta=3)
    running = a_status(succeeded=3, failed=1, in_flight=2, rate_per_minute=6, eta=60.2)
    running = running.model_copy(update={"cost": 12.345})
    head, first, second = drawn(tables.batches_table([running, ended], CREATED + 180))
    assert head.split() == ["batch", "state", "done", "failed", "in", "flight", "cost", "pace", "age"]
    assert " ".join(first.split()) == "prompts running 4/10 1 2 $12.35 6/min, ETA 0:01:00 3 min"
    assert second.split() == ["b", "finished", "10/10", "3", "min"]


def test_the_table_of_batches_leaves_out_what_says_nothing() -> None:
    head, *_ = drawn(tables.batches_table([a_status()], CREATED))
    assert head.split() == ["batch", "state", "done", "age"]
    assert list(report.notes([])) == [report.NO_BATCH]


def test_the_table_of_batches_fits_a_narrow_terminal() -> None:
    crowded = a_status(batch="x" * 64, total=100_000, succeeded=50_000, failed=123, in_flight=1000, rate_per_minute=600)
    crowded = crowded.model_copy(update={"eta": 5000.0})
    lines = drawn(tables.batches_table([crowded], CREATED), 80)
    assert all(len(line) <= 80 for line in lines)
    assert "50123/100000" in lines[1]
    assert sum(line.count("x") for line in lines) == 64


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600, "1 h"), (86_399, "23 h"), (200_000, "2 d")],
)
def test_an_age_in_the_largest_unit(seconds: float, text: str) -> None:
    assert tables.age("2026-11-21T02:03:04.000Z", CREATED + seconds) == text


def rows_of(status: Status, now: float = CREATED) -> dict[str, str]:
    found = (re.split(r"\s{2,}", line, maxsplit=1) for line in drawn(tables.batch_table(status, now)))
    return {name: value for name, value in found}  # noqa: C416 - each has two parts


def test_the_table_of_one_batch_says_what_there_is_to_say() -> None:
    rows = rows_of(a_status(), CREATED + 180)
    assert list(rows) == ["batch", "state", "done", "waiting", "begun", "workers"]
    assert (rows["done"], rows["state"]) == ("0 of 10", "running")
    rows = rows_of(a_status(rate_per_minute=6.4, eta=61.0, failed=3, **BOTH))
    assert (rows["pace"], rows["failed"]) == ("6/min, ETA 0:01:01", "3")
    assert (rows["cost"], rows["predictions"]) == ("$0.30 of $5.00", "9 of 10")
    rows = rows_of(a_status(dead_letters=["prompts:0:0"], stuck=True, max_in_flight=7, empty=2))
    assert (rows["dead letters"], rows["at once"], rows["no output"]) == ("prompts:0:0", "at most 7 in flight", "2")


@pytest.mark.parametrize(
    ("zone", "begun", "ended"),
    [
        ("UTC", "2026-11-21 02:03:04 UTC, 3 h ago", "2026-11-21 03:03:09 UTC, after 1:00:05"),
        ("Asia/Kolkata", "2026-11-21 07:33:04 IST, 3 h ago", "2026-11-21 08:33:09 IST, after 1:00:05"),
    ],
)
def test_people_read_local_time_with_its_zone(
    zone: str, begun: str, ended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = a_status(state="finished", finished_at="2026-11-21T03:03:09.001Z", succeeded=10, waiting=0)
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        rows = rows_of(finished, CREATED + 3 * 3600)
        reason = ModelPause("a/b", 3, 5, 0, "boom", 0, int(CREATED * 1000), "", 0).reason
    time.tzset()
    assert begun.partition(",")[0] in reason
    assert (rows["begun"], rows["ended"]) == (begun, ended)
    assert "workers" not in rows


def test_totals_name_only_what_there_is() -> None:
    lines = drawn(tables.totals_table(Totals(succeeded=3, files=4, bytes=1_234_567)))
    assert [line.split(maxsplit=1) for line in lines] == [["succeeded", "3"], ["files", "4 (1.2 MB)"]]
    lines = drawn(tables.totals_table(Totals(succeeded=1, micro_dollars=3000)))
    assert lines[-1].split() == ["cost", "$0.003"]
    lines = drawn(tables.totals_table(Totals(failed=1, canceled=3, missing=2)))
    assert [line.split()[0] for line in lines] == ["succeeded", "failed", "canceled", "not", "files"]


def test_places_are_those_that_exist(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "prompts")
    folder.path.mkdir()
    folder.results.touch()
    folder.errors.touch()
    assert list(tables.path_lines(folder, Totals(succeeded=3))) == [f"results    {folder.results}"]
    folder.gallery.touch()
    shown = [line.split()[1] for line in tables.path_lines(folder, Totals(failed=1))]
    assert shown == [str(folder.results), str(folder.errors), str(folder.gallery)]


def test_a_long_path_is_whole_on_a_narrow_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    paper = Printer()
    paper.width = 40
    paper.lines(["x" * 100])
    assert capsys.readouterr().out == "x" * 100 + "\n"


def test_failures_say_why() -> None:
    failed = Result(
        id="p1",
        index=0,
        status="failed",
        model="m",
        input={},
        error=Failure(kind="model_error", message="a\x1bb [red]"),
    )
    head, first, second = drawn(tables.failures_table([failed, failed.model_copy(update={"error": None})]))
    assert head.split() == ["prompt", "kind", "reason"]
    assert first.split(maxsplit=2) == ["p1", "model_error", "a�b [red]"]
    assert second.split() == ["p1", "failed"]


def test_schedules_say_when_and_what_went_wrong() -> None:
    nightly = ScheduleStatus(name="nightly", cron="0 2 * * *", timezone="UTC", file="f.jsonl")
    fired = {"next": "2026-11-22T02:00:00Z", "last": "2026-11-21T02:00:00Z", "last_batch": "nightly-1"}
    failed = nightly.model_copy(update={**fired, "last_error": "f.jsonl: no such file"})
    head, first, second = drawn(tables.schedules_table([nightly, failed]))
    assert head.startswith("schedule  cron")
    assert first.split() == ["nightly", "0", "2", "*", "*", "*", "UTC"]
    assert " ".join(second.split()[-7:]) == "2026-11-22 02:00 UTC 2026-11-21 02:00 UTC nightly-1"
    assert list(report.schedule_notes([nightly, failed])) == ["nightly: f.jsonl: no such file"]
    miss = ScheduleMiss(time="2026-11-20T02:00:00Z", batch="nightly-0", reason="gone")
    wrong = nightly.model_copy(update={"problem": "line 3: no", "misses": [miss]})
    assert list(report.schedule_notes([wrong])) == [
        "nightly: line 3: no",
        "nightly: 2026-11-20 02:00 UTC was missed: gone",
    ]
    passed = nightly.model_copy(update={"last_error": "nightly-0 was skipped: x", "misses": [miss]})
    assert list(report.schedule_notes([passed])) == ["nightly: nightly-0 was skipped: x"], "once"
    assert list(report.schedule_notes([])) == [report.NO_SCHEDULE]


def test_json_is_one_line_of_the_models() -> None:
    one = a_status()
    assert json.loads(as_json(one)) == one.model_dump()
    assert json.loads(as_json([one, one])) == [one.model_dump()] * 2
    assert as_json([]) == "[]"


def test_a_pause_of_all_and_one_of_a_batch_name_their_commands() -> None:
    both = {"state": "paused", "reason": "by hand; by hand", "reasons": ["by hand", "by hand"], "paused": "by hand"}
    assert list(report.notes([a_status(batch="night", workers=1, **both)])) == [
        "Paused: by hand. `python -m jobs resume` lifts it.",
        "night is paused: by hand. `python -m jobs resume --batch night` lifts it.",
    ]
    assert report.account_pause(a_status(reason="by hand", reasons=["by hand"], paused="by hand")) == ""
