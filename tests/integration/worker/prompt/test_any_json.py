"""Whatever the API answers, a prompt ends with a result: no hang, no dead worker, no line that is not JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jobs.account.rate_limit import Hold
from jobs.batch_folder.folder import Folder
from jobs.batch_folder.results import write_results
from jobs.replicate_api.predictions import CREATE_TIMEOUT
from jobs.wire import Batch, Prompt, Shard
from worker.context import Context, Work
from worker.limits.rate_limiter import RateLimiter
from worker.polling import poll_policy
from worker.prompt.predict import predict
from worker.timing import Timing

LONGEST = 20.0
"""Seconds after which a prompt counts as hung; it takes a fraction of one."""

GOOD = {
    "id": "p",
    "status": "succeeded",
    "output": "text",
    "error": None,
    "model": "o/n",
    "version": "v",
    "input": {},
    "logs": "",
    "metrics": {"predict_time": 1.5},
    "urls": {"get": "http://127.0.0.9:1/x"},
    "created_at": "2026-01-02T03:04:05.678Z",
    "completed_at": "2026-01-02T03:04:06Z",
    "data_removed": False,
}
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=8)
    | st.sampled_from(
        ["\ud800", "\u2028", "\x1b[2J", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "../..", "a b", ""]
    )
    | st.sampled_from(["data:;base64,!", "data:text/html,<script>", "http://127.0.0.1:1/x", "https://[", 10**400])
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
STATUS = st.sampled_from(["starting", "processing", "succeeded", "failed", "canceled", "aborted", "pondering"])
ODD = st.sampled_from(
    [
        b"",
        b"[",
        b"\xff\xfe",
        b'{"id": "p", "id": "q", "status": "succeeded", "status": "failed"}',
        b'{"id": "p", "status": "succeeded", "output": 1e999, "metrics": {"predict_time": -1e999}}',
        b'{"id": "p", "status": "succeeded", "output": [NaN, Infinity], "metrics": NaN}',
        b'{"id": "p", "status": "succeeded", "output": ' + b"[" * 400 + b"]" * 400 + b"}",
        b'{"id": "p", "status": "succeeded", "output": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"id": "p", "status": "succeeded", "output": ' + b"9" * 5_000 + b"}",
        b'{"id": "\\ud800", "status": "succeeded", "output": "x"}',
        b'{"id": "a b", "status": "starting"}',
        b'{"id": "' + b"x" * 100_000 + b'", "status": "starting"}',
    ]
)
PREDICTIONS = st.tuples(
    st.dictionaries(st.sampled_from(sorted(GOOD)), JSON, max_size=4),
    st.fixed_dictionaries({}, optional={"status": STATUS}),
).map(lambda odd: json.dumps(GOOD | odd[0] | odd[1]).encode())
PAGES = st.fixed_dictionaries(
    {},
    optional={
        "results": JSON | st.lists(JSON | st.just(GOOD), max_size=3),
        "next": JSON | st.just("/v1/predictions?a=b"),
    },
).map(lambda page: json.dumps(page).encode())
BODIES = PREDICTIONS | ODD | PAGES | JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30)
ANSWERS = st.tuples(st.sampled_from([200, 201, 200, 201, 204, 302, 404, 408, 422, 429, 500]), BODIES)
DEADLINE = 1800
KINDS = ("create", "get", "list", "cancel")


@dataclass
class Api:
    """Gives each kind of call its hostile answers in turn, the last one for ever; then what is right."""

    hostile: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    made: int = 0
    elsewhere: str = "http://127.0.0.9:1/"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, target = head.split(" ")[:2]
            lines = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            await reader.readexactly(int(lines.get("content-length", 0)))
            status, body = self.answer(method, target)
            length = len(body) * (status != 204)
            lead = f"Location: {self.elsewhere}\r\nRefresh: 0; url={self.elsewhere}"
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{lead}\r\n\r\n".encode())
            writer.write(body if status != 204 else b"")
            await writer.drain()

    def answer(self, method: str, target: str) -> tuple[int, bytes]:
        if target == "/v1/account":
            return 200, b'{"username": "u"}'
        parts = target.partition("?")[0].split("/")[3:]
        kind = ("create" if method == "POST" else "list") if not parts else "cancel" if method == "POST" else "get"
        if self.hostile.get(kind):
            return self.hostile[kind].pop(0)
        self.made += kind == "create"
        good = GOOD | {"id": parts[0] if parts else f"made{self.made}"}
        return 200, json.dumps({"results": []} if kind == "list" else good).encode()


@dataclass
class Night:
    """One worker for all examples; each is a prompt of its own, of a model of its own."""

    worker: Context
    api: Api
    prompts: list[Prompt] = field(default_factory=list)

    async def predicted(self, hostile: dict[str, list[tuple[int, bytes]]]) -> str:
        number = len(self.prompts)
        prompt = Prompt(number, f"p{number}", f"o/n{number}", {"prompt": str(number)})
        self.prompts.append(prompt)
        self.api.hostile = hostile
        async with asyncio.timeout(LONGEST):
            await predict(Work(self.worker, Shard("night", "b1", 0, 0, (prompt,)), prompt))
        assert number in await self.worker.batches.settled("night")
        record = self.folder.read_record(prompt.id)
        assert record
        return record.status

    @property
    def folder(self) -> Folder:
        return Folder(self.worker.config.output_dir, "night")

    def check_results(self) -> None:
        rows = [{"id": prompt.id, "model": prompt.model, "input": prompt.input} for prompt in self.prompts]
        self.folder.prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert write_results(self.folder, fsync=False).prompts == len(rows)
        lines = self.folder.results.read_bytes().decode().splitlines()
        assert [json.loads(line, parse_constant=pytest.fail)["id"] for line in lines] == [row["id"] for row in rows]


hold = RateLimiter.hold


async def hold_shortly(limiter: RateLimiter, bucket: str, seconds: float | None, why: Hold = "throttled") -> float:
    return await hold(limiter, bucket, min(seconds or 0.01, 0.01), why)


@pytest.fixture
def timing() -> Timing:
    polling = poll_policy.Timing(grace=0.05 - DEADLINE, retention=0.1)
    return Timing(jitter=lambda: 0.0, sure_after=-CREATE_TIMEOUT, between_searches=0.0, polling=polling)


@pytest.fixture
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RateLimiter, "hold", hold_shortly)


@pytest.fixture
async def night(
    raw_server: Any,
    open_worker: Callable[..., Awaitable[Context]],
    open_batch: Callable[..., Awaitable[Batch]],
    _no_waiting: None,
) -> Night:
    api = Api()
    address = f"http://{await raw_server(api.handle)}"
    fast = {"reads_per_minute": 60_000.0, "poll_interval": 0.01, "max_attempts": 2, "deadline": DEADLINE}
    worker = await open_worker(replicate_base_url=address, **fast)
    await open_batch(worker, total=1_000_000)
    return Night(worker, api)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    hostile=st.dictionaries(st.sampled_from(KINDS), st.lists(ANSWERS, min_size=1, max_size=3), min_size=1),
    running=st.booleans(),
)
@example(hostile={"create": [(201, b'{"id": "\\ud800", "status": "starting"}')]}, running=False)
@example(hostile={"create": [(201, b'{"id": "a b", "status": "starting"}')]}, running=False)
@example(hostile={"create": [(201, b'{"id": "p", "status": "succeeded", "output": 1e999}')]}, running=False)
@example(hostile={"get": [(200, b'{"id": "p", "status": "pondering"}')] * 3}, running=True)
async def test_any_answer_ends_in_a_result(
    night: Night,
    hostile: dict[str, list[tuple[int, bytes]]],
    *,
    running: bool,
) -> None:
    if running:
        started = json.dumps(GOOD | {"id": f"run{len(night.prompts)}", "status": "starting"}).encode()
        hostile = {**hostile, "create": [*hostile.get("create", []), (201, started)]}
    await night.predicted(hostile)
    night.check_results()


async def test_a_prediction_that_is_never_shown_is_not_waited_for_for_ever(night: Night) -> None:
    running = [(201, json.dumps(GOOD | {"id": f"run{number}", "status": "starting"}).encode()) for number in range(2)]
    assert await night.predicted({"create": running, "get": [(500, b"")] * 1_000}) == "failed"
    record = night.folder.read_record("p0")
    assert record
    assert record.error
    assert (record.error.kind, record.attempts) == ("output_lost", 2)


async def test_a_list_that_leads_back_into_itself_is_read_once(night: Night) -> None:
    page = json.dumps({"results": [], "next": "/v1/predictions?cursor=1"}).encode()
    lost = (500, b"")
    assert await night.predicted({"create": [lost], "list": [(200, page)] * 1_000}) == "succeeded"
    assert len(night.api.hostile["list"]) > 900


async def test_nothing_that_the_api_says_leads_the_token_away(night: Night, raw_server: Any) -> None:
    strangers: list[bytes] = []

    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        strangers.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\n{}")

    url = night.api.elsewhere = f"http://{await raw_server(stranger)}/v1/predictions"
    urls = {"urls": {"get": url, "cancel": url, "stream": url, "web": url}, "next": url}
    running = json.dumps(GOOD | urls | {"id": "run", "status": "starting"}).encode()
    page = json.dumps({"results": [GOOD | urls], "next": url}).encode()
    hostile = {
        "get": [(302, b""), (308, running), (200, running)],
        "list": [(307, b""), (200, page)],
        "cancel": [(303, b"")],
    }
    assert await night.predicted({"create": [(307, b""), (301, b""), (201, running)], **hostile}) == "succeeded"
    assert strangers == []
