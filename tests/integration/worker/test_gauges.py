from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.request import urlopen

from jobs.wire import Batch
from tests.integration.worker.prompt.works import CAT, work_on
from worker.context import Context
from worker.prompt.predict import predict
from worker.reports.gauges import Gauges, serving_metrics


async def read(url: str) -> dict[str, float]:
    def get() -> str:
        with urlopen(url) as answer:
            return str(answer.read(), "utf-8")

    lines = [line for line in (await asyncio.to_thread(get)).splitlines() if line.startswith("replicate_batch")]
    return {name: float(number) for name, _, number in (line.rpartition(" ") for line in lines)}


async def test_a_prompt_shows_in_the_metrics_of_its_worker(
    open_worker: Callable[..., Awaitable[Context]], open_batch: Callable[..., Awaitable[Batch]]
) -> None:
    worker = await open_worker(metrics_port=0)
    await open_batch(worker, CAT)
    async with serving_metrics(worker) as server:
        assert server
        before = await read(server.url)
        await predict(work_on(worker))
        after = await read(server.url)

    def more(name: str) -> float:
        return after[f"replicate_batch_{name}"] - before.get(f"replicate_batch_{name}", 0.0)

    model = 'model="simulator/image"'
    assert more(f"attempts_total{{{model}}}") == 1
    assert more(f'predictions_total{{{model},status="succeeded"}}') == 1
    assert more(f'prompts_total{{{model},status="succeeded"}}') == 1
    assert more("saved_outputs_total") == 1
    assert more('api_requests_total{bucket="create",status="2xx"}') == 1
    assert more("create_tokens_wait_seconds_count") == 1
    assert more("download_bytes_total") > 0
    assert after["replicate_batch_in_flight_limit"] == worker.config.max_in_flight


async def test_pauses_and_waits_show(open_worker: Callable[..., Awaitable[Context]]) -> None:
    worker = await open_worker(metrics_port=0)
    await worker.account.pause("by hand")
    await worker.account.report_trouble("a full disk")
    async with serving_metrics(worker) as server:
        assert server
        gauges = Gauges(worker)
        with worker.waits.on("night/cat", "model limit"), worker.outputs.backlog.unsaved(0.0):
            await gauges.read_redis()
            await gauges.read_worker()
        paused = await read(server.url)
        await worker.account.resume()
        await worker.account.pause_for("402", "no credit")
        await gauges.read_redis()
        await gauges.read_worker()
        unpaid = await read(server.url)

    def reasons(found: dict[str, float]) -> set[str]:
        pattern = re.compile(r'replicate_batch_paused\{reason="(\w+)"\}')
        return {match[1] for name, on in found.items() if on and (match := pattern.fullmatch(name))}

    assert reasons(paused) == {"manual", "trouble"}
    assert paused['replicate_batch_waiting_prompts{reason="model_limit"}'] == 1
    assert paused["replicate_batch_unsaved_outputs"] == 1
    assert paused["replicate_batch_unsaved_backlog_seconds"] > 3600
    assert reasons(unpaid) == {"credit"}
    assert unpaid['replicate_batch_waiting_prompts{reason="model_limit"}'] == 0


async def test_nothing_is_served_without_a_port(open_worker: Callable[..., Any]) -> None:
    worker = await open_worker()
    async with serving_metrics(worker) as server:
        assert server is None
