"""The benchmark measures what it says: its stand-in speaks the API, runs are whole, figures are compared rightly."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import google_crc32c
import httpx
import pytest

from benchmarks import page
from benchmarks.candidates import CANDIDATES, Peer
from benchmarks.cases.closing import settle
from benchmarks.cases.comparison import run
from benchmarks.cases.faults import _count_unintended
from benchmarks.cases.limits import KINDS, _case
from benchmarks.cases.million import million
from benchmarks.measurements import MEASUREMENTS
from benchmarks.processes import RunningServer, start_server
from benchmarks.results import Rows
from benchmarks.targets import TARGETS, Target, lines
from benchmarks.workloads import WORKLOADS, Workload
from jobs.batch_folder.folder import Folder
from jobs.batch_folder.results import write_results

SERVED = ("--model=fixed:0.5", "--files=2", "--bytes=3000")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with start_server(SERVED) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        yield client


def create(client: httpx.Client, number: int = 0) -> dict[str, Any]:
    answer = client.post("/v1/predictions", json={"version": "bench/model", "input": {"seed": number}})
    assert answer.status_code == 201
    created: dict[str, Any] = answer.json()
    return created


def ended(client: httpx.Client, prediction_id: str) -> dict[str, Any]:
    while True:
        prediction: dict[str, Any] = client.get(f"/v1/predictions/{prediction_id}").json()
        if prediction["status"] not in ("starting", "processing"):
            return prediction
        time.sleep(0.05)


def test_a_prediction_starts_ends_and_names_its_files(client: httpx.Client, server: RunningServer) -> None:
    created = create(client)
    assert (created["status"], created["output"], len(created["id"])) == ("starting", None, 26)
    prediction = ended(client, created["id"])
    assert (prediction["status"], prediction["input"]) == ("succeeded", {"seed": 0})
    assert [url.startswith(server.files_url) for url in prediction["output"]] == [True, True]
    assert client.get("/v1/predictions/bbbbbbbbbbbbbbbbbbbbbbbbbb").status_code == 404


def test_a_canceled_prediction_has_no_output(client: httpx.Client) -> None:
    created = create(client)
    canceled = client.post(f"/v1/predictions/{created['id']}/cancel").json()
    assert (canceled["status"], canceled["output"]) == ("canceled", None)


def test_the_list_shows_pages_of_a_hundred_newest_first(client: httpx.Client) -> None:
    ids = [create(client, number)["id"] for number in range(130)]
    since = client.get(f"/v1/predictions/{ids[10]}").json()["created_at"]
    first = client.get("/v1/predictions", params={"created_after": since}).json()
    second = client.get(first["next"]).json()
    assert [row["id"] for row in first["results"] + second["results"]] == ids[:9:-1]
    assert (len(first["results"]), second["next"]) == (100, None)


def test_files_come_with_checksums_and_in_parts(client: httpx.Client) -> None:
    url = ended(client, create(client)["id"])["output"][1]
    whole = client.get(url)
    checksums = dict(line.split("=", 1) for line in whole.headers.get_list("x-goog-hash"))
    assert len(whole.content) == int(whole.headers["content-length"]) == 3000
    assert whole.headers["etag"] == f'"{hashlib.md5(whole.content).hexdigest()}"'
    assert base64.b64decode(checksums["md5"]) == hashlib.md5(whole.content).digest()
    assert base64.b64decode(checksums["crc32c"]) == google_crc32c.value(whole.content).to_bytes(4)
    part = client.get(url, headers={"range": "bytes=1000-", "if-range": whole.headers["etag"]})
    assert (part.status_code, part.content) == (206, whole.content[1000:])
    assert part.headers["content-range"] == "bytes 1000-2999/3000"
    assert client.get(url, headers={"range": "bytes=1000-", "if-range": '"other"'}).status_code == 200
    assert client.get(url, headers={"range": "bytes=3000-"}).status_code == 416


def test_calls_and_delays_are_reported() -> None:
    with start_server(SERVED) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        prediction = ended(client, create(client)["id"])
        client.get(prediction["output"][0])
        report = server.report()
    assert (report["counts"]["create"], report["counts"]["file"], report["bytes"]) == (1, 1, 3000)
    assert report["counts"]["get"] >= 1
    assert report["delay_mean"] == report["delay_worst"] > 0


@pytest.mark.parametrize("candidate", ["ours", "official", "httpx", "aiohttp", "curl"])
def test_a_run_is_whole_and_counted(candidate: str) -> None:
    if candidate == "curl" and not shutil.which("curl"):
        pytest.skip("there is no curl")
    creates = 0 if candidate == "curl" else 5
    figures = run(Workload("try", "", 5, (), files=2, file_bytes=70_000), candidate)
    assert (figures["whole"], figures["create"], figures["file"]) == (1.0, creates, 10)
    assert figures["cpu_ms"] >= figures["work_ms"] > 0
    assert figures["peak_mb"] > 0
    assert figures["wall"] > 0


def test_a_candidate_that_fails_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CANDIDATES, "broken", Peer("no_such_client"))
    with pytest.raises(RuntimeError, match="No module named"):
        run(Workload("try", "", 1, ()), "broken")


def test_a_limit_is_measured() -> None:
    figures = _case(KINDS[0], 1, 6.0)
    assert figures["throttled"] == 0
    assert 0 < figures["share"] <= 1.1
    assert figures["create"] >= 1


def test_enqueuing_and_arq_are_measured() -> None:
    rows = million(300, 1.0, 50)
    assert [rows["enqueue"]["prompts"], rows["arq, enqueue_job in a loop"]["prompts"]] == [300, 50]
    assert all(row["rate"] > 0 for who, row in rows.items() if "rate" in row)
    assert rows["check against a schema"]["prompts"] == 300
    assert rows["worker"]["peak_mb"] > 10
    assert rows["close"]["prompts"] == 300


def test_a_closed_batch_is_merged_from_its_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path, "bench")
    settle(folder, 101)
    monkeypatch.setattr(Folder, "read_record", None)
    totals = write_results(folder, fsync=False)
    assert (totals.succeeded, totals.failed) == (98, 3)
    assert json.loads(folder.errors.read_text().splitlines()[1])["id"] == "study-50"


def test_what_was_paid_unintentionally_is_counted() -> None:
    def result(*ids: str, unknown: int = 0) -> dict[str, Any]:
        return {"prediction_ids": list(ids), "unknown_creates": unknown}

    creates = {id_: {"canceled_by_call": id_ == "gone"} for id_ in ("a", "b", "gone")}
    assert _count_unintended([result("a"), result("b")], creates) == 0
    assert _count_unintended([result("a", unknown=1)], creates) == 0
    assert _count_unintended([result("a")], creates) == 1
    assert _count_unintended([result("a", "b"), result("a")], creates) == 1


@pytest.mark.parametrize(
    ("target", "reached", "verdict"),
    [
        (Target("rate", lambda _: 0, 3, 4), 2.4, "missed by 20%"),
        (Target("rate", lambda _: 0, 3, 4), 3.0, "met"),
        (Target("rate", lambda _: 0, 3, 4), 4.1, "met, aim too"),
        (Target("memory", lambda _: 0, 150, most=True), 151, "missed by 1%"),
        (Target("memory", lambda _: 0, 150, most=True), 150, "met"),
        (Target("429s", lambda _: 0, 0, most=True), 2, "missed by 2"),
    ],
)
def test_a_verdict_says_by_how_much(target: Target, reached: float, verdict: str) -> None:
    assert target.verdict(reached) == verdict


class EveryFigure(dict[str, float]):
    def __missing__(self, key: str) -> float:
        return 1.0


def everything() -> dict[str, Rows]:
    compared: dict[str, Rows] = {work.name: {who: EveryFigure() for who in work.candidates} for work in WORKLOADS}
    names = {
        "limits": ["bucket, 1 worker"],
        "faults": ["ours"],
        "million": ["check against a schema", "enqueue", "worker", "close a tenth", "close"],
        "takeover": ["kill 1"],
        "startup": [
            "embedded server",
            "worker",
            "--help",
            "status, nothing enqueued",
            "status, one batch",
            "completion",
        ],
        "waiting": ["1,000 predictions of 60 s", "nothing"],
    }
    return compared | {
        name: {row: EveryFigure(throttled=1.0, wall=1.0) for row in rows} for name, rows in names.items()
    }


def test_every_target_has_its_measurement() -> None:
    assert len(list(lines(everything()))) == len(TARGETS)
    assert list(lines({})) == []
    assert everything().keys() <= MEASUREMENTS.keys()


def test_the_page_keeps_what_was_written_by_hand(tmp_path: Path) -> None:
    place = tmp_path / "benchmarks.md"
    results = {"instant": {"ours": {"rate": 400.0, "cpu_ms": 3.0}, "official": {"rate": 100.0, "cpu_ms": 9.0}}}
    page.write(results, {"machine": "two cores"}, "make bench", place)
    first = place.read_text()
    assert "| predictions/s against the official client, ours at its default | 4.00 times |" in first
    assert "- machine: two cores" in first
    assert "4.00 times |" in first
    place.write_text(first + "\nWhy it was missed.\n")
    page.write(results, {"machine": "four cores"}, "make bench", place)
    assert place.read_text() == first.replace("two cores", "four cores") + "\nWhy it was missed.\n"
    ET.fromstring((tmp_path / "benchmarks.svg").read_text())


def test_the_page_begins_with_what_a_user_feels_and_says_last_what_was_missed(tmp_path: Path) -> None:
    place = tmp_path / "benchmarks.md"
    page.write(everything(), {"machine": "two cores"}, "make bench", place)
    text = place.read_text()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings[:4] == [
        "## What a user feels",
        "## Beside peers",
        "## What was aimed at and missed",
        "## How it was measured",
    ]
    assert "missed by" not in text.partition("## Beside peers")[2].partition("## What was aimed")[0]
    feels, missed = (text.partition(heading)[2].partition("\n## ")[0] for heading in (headings[0], headings[2]))
    assert feels.count("\n| ") == 2 + sum(not target.peer for target in TARGETS)
    assert missed.count("missed by") == sum("missed" in line[-1] for line in lines(everything()))


def test_the_longest_bar_is_the_largest_figure() -> None:
    drawn = page.chart(
        {"instant": {"ours": {"rate": 300.0, "cpu_ms": 1.0}, "official": {"rate": 100.0, "cpu_ms": 4.0}}}
    )
    lengths = [float(bar.attrib["width"]) for bar in ET.fromstring(drawn).iter() if "rx" in bar.attrib]
    assert lengths == pytest.approx([530, 530 / 3, 530 / 4, 530], abs=0.1)
