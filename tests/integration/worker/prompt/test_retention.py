"""An output is kept for an hour: what is looked up again, what is given up soon, and what makes creates wait."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from jobs.config import Config
from jobs.errors import BrokenDownload, OutputGone, Unanswered
from jobs.redis_client import keys
from jobs.replicate_api.predictions import RETENTION, Prediction
from jobs.state.status import read_status
from jobs.wire import Batch, timestamp
from tests.integration.worker.prompt.works import CAT, record_of, work_on
from worker.context import Context, Work
from worker.outputs import download
from worker.outputs.backlog import ENOUGH, Backlog, UnsavedOutput
from worker.outputs.file_host import files_client
from worker.outputs.file_writer import FileWriter
from worker.outputs.saver import OutputSaver
from worker.prompt.predict import predict
from worker.prompt.save import fetch, kept_until
from worker.timing import Timing


@pytest.fixture
def timing() -> Timing:
    return Timing(jitter=lambda: 0.005, hold=1)


@pytest.fixture
async def worker(
    config: Config,
    simulator: Any,
    open_worker: Callable[..., Awaitable[Context]],
    open_batch: Callable[..., Awaitable[Batch]],
) -> Context:
    simulator.settings(limiter="off", predict_min=0.05, predict_max=0.1, loose=0.0)
    worker = await open_worker(max_attempts=2, max_downloads=1, output_hosts=(*config.output_hosts, "127.0.0.1"))
    await open_batch(worker, CAT)
    return worker


@pytest.fixture
def work(worker: Context) -> Work:
    return work_on(worker)


def ended(output: Any, ago: float = 1.0, **fields: Any) -> Prediction:
    completed = timestamp(time.time() - ago)
    return Prediction("p1", "succeeded", {"output": output, "completed_at": completed} | fields)


def answering(monkeypatch: pytest.MonkeyPatch, *answers: Prediction | Exception) -> list[str]:
    """Let the API answer so; the last answer for ever. Returns the ids that were asked for."""
    waiting, asked = list(answers), list[str]()

    async def get(_: Any, prediction_id: str) -> Prediction:
        asked.append(prediction_id)
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("jobs.replicate_api.predictions.Replicate.get", get)
    return asked


async def fetched(work: Work, prediction: Prediction, *, keep_trying: bool = True) -> Any:
    unsaved = UnsavedOutput(kept_until(work, prediction))
    async with work.worker.outputs.storage.staging(work.folder, "cat") as staging:
        output = (await fetch(work, prediction, staging, unsaved, keep_trying=keep_trying))[1].output
        await staging.commit(b"{}")
    return output


async def test_a_gone_file_is_fetched_by_the_urls_that_the_prediction_has_now(
    work: Work, file_host: Any, reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = file_host.serve("/old.png", reply(status=403)), file_host.serve("/new.png", b"picture")
    asked = answering(monkeypatch, ended([new]))
    assert await fetched(work, ended([old])) == ["cat/output_0.png"]
    assert asked == ["p1"]
    assert [path for path, _ in file_host.requests] == ["/old.png", "/new.png"]


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_a_file_that_is_not_there_yet_is_waited_for(
    work: Work, file_host: Any, reply: Any, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """The prediction is looked at afresh each time: only it can say that the output is gone for good."""
    late = [reply(status=status)] * 6
    prediction = ended([file_host.serve("/a.png", *late, reply(b"picture"))])
    asked = answering(monkeypatch, prediction)
    assert await fetched(work, prediction) == ["cat/output_0.png"]
    assert (len(asked), len(file_host.requests)) == (6, 7)


async def test_a_file_that_stays_away_is_lost_when_its_hour_is_over(
    work: Work, file_host: Any, reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction = ended([file_host.serve("/old.png", reply(status=404))], ago=RETENTION - 1)
    asked = answering(monkeypatch, prediction)
    with pytest.raises(OutputGone):
        await fetched(work, prediction)
    assert len(asked) > 2


@pytest.mark.parametrize("how", ["canceled", "past its hour"])
async def test_there_is_one_more_look_where_there_is_nothing_to_wait_for(
    work: Work, file_host: Any, reply: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    gone = file_host.serve("/old.png", reply(status=404))
    prediction = ended([gone], ago=0.0 if how == "canceled" else RETENTION + 1)
    asked = answering(monkeypatch, prediction)
    with pytest.raises(OutputGone):
        await fetched(work, prediction, keep_trying=how != "canceled")
    assert (asked, len(file_host.requests)) == (["p1"], 2)


async def test_an_output_that_replicate_has_removed_is_lost_at_once(
    work: Work, file_host: Any, reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction = ended([file_host.serve("/old.png", reply(status=404))])
    answering(monkeypatch, ended(None, data_removed=True))
    with pytest.raises(OutputGone, match="has removed the output"):
        await fetched(work, prediction)
    assert len(file_host.requests) == 1, "the old URL is not tried again"


async def test_nothing_is_given_up_before_the_api_has_answered(
    work: Work, file_host: Any, reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file host answers 404 in the same minute in which the API does not answer at all."""
    prediction = ended([file_host.serve("/a.png", reply(status=404), reply(b"picture"))])
    asked = answering(monkeypatch, Unanswered("away"), Unanswered("away"), prediction)
    assert await fetched(work, prediction) == ["cat/output_0.png"]
    assert len(asked) == 3


@pytest.mark.parametrize("how", [{"status": 503}, {"cut": 0}])
async def test_what_breaks_past_its_hour_is_not_tried_again(
    work: Work, file_host: Any, reply: Any, how: dict[str, Any]
) -> None:
    """A worker was down for hours: there is nothing to wait for, and another attempt may be allowed."""
    prediction = ended([file_host.serve("/a.png", reply(b"picture", **how))], ago=RETENTION + 1)
    with pytest.raises(BrokenDownload):
        await fetched(work, prediction)
    assert len(file_host.requests) == 1


async def test_what_is_still_there_past_its_hour_is_saved(work: Work, file_host: Any) -> None:
    prediction = ended([file_host.serve("/a.png", b"picture")], ago=3 * RETENTION)
    assert await fetched(work, prediction) == ["cat/output_0.png"]


@pytest.mark.parametrize("timing", [Timing(jitter=lambda: 0.005, retention=-1.0)])
async def test_a_worker_that_was_down_for_hours_ends_it_as_output_lost(
    worker: Context, work: Work, simulator: Any
) -> None:
    """With attempts left a new one is made, and the loss is counted apart."""
    simulator.control(broken_body={"next": 1, "fraction": 0.0})
    await predict(work)
    assert (record_of(work).status, record_of(work).attempts) == ("succeeded", 2)
    batch = await worker.batches.get("night")
    assert (batch.outputs_lost, simulator.ledger()["created"]) == (1, 2)


HOURS: list[tuple[dict[str, Any], float]] = [
    ({"completed_at": -100.0}, RETENTION - 100),
    ({"completed_at": 5000.0}, RETENTION),  # what has ended did not end later than now
    ({"created_at": -9000.0}, RETENTION - 9000 + 1800),
    ({"created_at": -10.0}, RETENTION),
    ({}, RETENTION),
    ({"completed_at": "yesterday"}, RETENTION),
]


async def test_the_hour_begins_when_the_prediction_ended(work: Work) -> None:
    work.worker.replicate.clock_offset = 0.0
    for raw, expected in HOURS:
        now = time.time()
        fields = {name: value if isinstance(value, str) else timestamp(now + value) for name, value in raw.items()}
        until = kept_until(work, Prediction("p1", "succeeded", fields))
        assert until - now == pytest.approx(expected, abs=5), raw


async def test_the_hour_is_counted_by_the_apis_clock(work: Work) -> None:
    work.worker.replicate.clock_offset = -600.0  # theirs is ten minutes behind: it ended just now
    assert kept_until(work, ended(None, ago=600)) - time.time() == pytest.approx(RETENTION, abs=5)


@pytest.mark.parametrize("timing", [Timing(downloads=download.Timing(first_pause=0.0, slow_after=0.3))])
async def test_a_host_that_trickles_is_given_up(work: Work, raw_server: Any) -> None:
    """A byte now and then is no stall: it would keep its slot from all others, for days."""
    transfers = []

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        transfers.append(1)
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    prediction = ended([f"http://{await raw_server(trickle)}/a.png"])
    with pytest.raises(BrokenDownload, match="bytes in 0 s"):
        await fetched(work, prediction, keep_trying=False)
    assert len(transfers) == 8, "what comes in drops does not count as getting further"


@pytest.mark.parametrize("timing", [Timing(downloads=download.Timing(slow_after=0.1))])
async def test_a_host_that_never_ends_its_head_is_given_up(work: Work, raw_server: Any) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 X\r\nX-Y: ")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    with pytest.raises(BrokenDownload, match="TimeoutError"):
        await fetched(work, ended([f"http://{await raw_server(trickle)}/a.png"], ago=2 * RETENTION))


@pytest.mark.parametrize("timing", [Timing(downloads=download.Timing(slow_after=0.4))])
async def test_a_slow_disk_is_not_a_slow_host(work: Work, raw_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first piece is written for longer than a host may take for so few bytes."""
    written = asyncio.Event()
    original = FileWriter.write

    async def slow(writer: FileWriter, chunk: bytes) -> None:
        if not written.is_set():
            await asyncio.sleep(0.5)
        written.set()
        await original(writer, chunk)

    async def in_two_pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 200\r\n\r\n" + bytes(100))
        await written.wait()
        writer.write(bytes(100))

    monkeypatch.setattr(FileWriter, "write", slow)
    await fetched(work, ended([f"http://{await raw_server(in_two_pieces)}/a.bin"], ago=2 * RETENTION))


@pytest.mark.parametrize("timing", [Timing(late=0.3)])
async def test_a_host_that_sends_on_and_on_has_an_end(work: Work, raw_server: Any, file_host: Any) -> None:
    """Fast enough, and without a length: the byte cap is hours away."""

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 X\r\n\r\n")
        while True:
            writer.write(bytes(1000))
            await writer.drain()
            await asyncio.sleep(0.01)

    prediction = ended([f"http://{await raw_server(pour)}/a.png"], ago=2 * RETENTION)
    with pytest.raises(BrokenDownload, match="after its hour"):
        await fetched(work, prediction)
    async with asyncio.timeout(20):  # the slot is free again
        await fetched(work, ended([file_host.serve("/b.png", b"picture")]))


async def test_the_oldest_output_is_saved_first(work: Work, file_host: Any) -> None:
    config = work.worker.config
    async with files_client(config) as client:
        outputs = OutputSaver(config.model_copy(update={"max_downloads": 1}), client)
        urls = [file_host.serve(f"/{number}.png", b"x") for number in range(6)]
        order = [3.0, 5.0, 1.0, 4.0, 0.0, 2.0]
        async with outputs.storage.staging(work.folder, "cat") as staging:
            await asyncio.gather(*(outputs.save(staging, *each) for each in zip(urls, order, strict=True)))
    served = [int(path[1]) for path, _ in file_host.requests]
    assert served == [0, *sorted(range(1, 6), key=order.__getitem__)], "the first to come found a slot"


def measure_speed(backlog: Backlog, speed: int) -> None:
    """Save so many a second for as long as it takes to know the speed; others must wait meanwhile."""
    now = asyncio.get_running_loop().time()
    backlog.look(now - ENOUGH)
    for _ in range(int(ENOUGH) * speed):
        with backlog.unsaved(time.time() + RETENTION):
            pass
    backlog.look(now)


async def test_creates_wait_while_a_backlog_would_miss_the_hour(
    worker: Context,
    work: Work,
    simulator: Any,
    eventually: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with ExitStack() as waiting:
        for _ in range(12_000):
            waiting.enter_context(worker.outputs.backlog.unsaved(time.time() + RETENTION))
        measure_speed(worker.outputs.backlog, 3)
        trouble = await eventually(worker.account.trouble)
        assert re.match(r"12,000 outputs wait to be saved: at \S+ a second the first would be lost at ", trouble)
        assert (await read_status(worker.redis, await worker.batches.get("night"))).reason == trouble
        predicting = asyncio.create_task(predict(work))
        await eventually(lambda: "create limit: waiting: 12,000 outputs" in caplog.text)
        assert simulator.ledger()["created"] == 0
        assert await worker.redis.ttl(keys.trouble(worker.config.api_host)) <= 1
    await predicting
    assert record_of(work).status == "succeeded"


NAMES = ["../../../etc/passwd", "..%2F..%2Fpasswd", "%00", "a/../../b.png", "....", "C:%5Cx", "con.png%00/..%2Fx"]


async def test_no_name_from_a_url_becomes_a_path(work: Work, file_host: Any) -> None:
    """All lie in the prompt's folder, and nothing anywhere above it."""
    file_host.serve("/", b"picture")
    file_host.replies = _Anything(file_host.replies["/"])
    output = await fetched(work, ended([f"http://{file_host.address}/{name}" for name in NAMES]))
    assert [path.partition(".")[0] for path in output] == [f"cat/output_{place}" for place in range(len(NAMES))]
    assert {Path(path).parent for path in output} == {Path("cat")}
    top = work.worker.config.output_dir.parent
    made = {path.relative_to(top).parts[0] for path in _below(top)}
    assert made <= {"outputs", ".redis"}
    assert len(_below(work.folder.prompt("cat"))) == len(NAMES) + 1, "and the record"


def _below(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


class _Anything(dict[str, Any]):
    """Replies that are given for every path: clients write a URL's path in their own way."""

    def __init__(self, replies: list[Any]) -> None:
        super().__init__()
        self._replies = replies

    def get(self, *_: Any) -> Any:
        return self._replies
