from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from jobs.wire import Batch
from tests.integration.worker.prompt.works import CAT, work, work_on
from worker.context import Context
from worker.prompt.predict import predict
from worker.telemetry.spans import Tracing, span

Open = Callable[..., Awaitable[Any]]
SECRET = "a very particular cat"


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    Tracing.tracer = provider.get_tracer("tests")
    yield exporter
    Tracing.tracer = None


def children(parent: ReadableSpan | None, exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    """The spans below another one, or without any (None), in the order in which they began."""
    above = parent.context.span_id if parent and parent.context else None
    found = [one for one in exporter.get_finished_spans() if (one.parent.span_id if one.parent else None) == above]
    return sorted(found, key=lambda one: one.start_time or 0)


async def test_a_prompt_is_a_span_with_its_attempt_and_the_steps_of_this(
    open_worker: Open, open_batch: Open, exported: InMemorySpanExporter
) -> None:
    worker = await open_worker()
    prompt = replace(CAT, input=CAT.input | {"prompt": SECRET, "seed": 7})
    await open_batch(worker, prompt)
    await predict(work_on(worker, prompt))
    (root,) = children(None, exported)
    assert root.name == "prompt"
    assert root.attributes is not None
    assert root.attributes["replicate_batch.batch"] == "night"
    assert root.attributes["replicate_batch.prompt"] == "cat"
    assert root.attributes["replicate_batch.status"] == "succeeded"
    (attempt,) = children(root, exported)
    assert (attempt.name, attempt.kind) == ("generate_content simulator/image", SpanKind.CLIENT)
    assert dict(attempt.attributes or {}) == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "replicate",
        "gen_ai.request.model": "simulator/image",
        "gen_ai.request.seed": 7,
    }
    create, wait, save = children(attempt, exported)
    assert [create.name, wait.name, save.name] == ["create", "wait", "save"]
    assert (wait.attributes or {})["gen_ai.response.id"]
    assert [one.name for one in children(save, exported)] == ["download"]
    assert SECRET not in "".join(one.to_json() for one in exported.get_finished_spans())


async def test_each_attempt_is_a_span_and_a_failed_one_says_of_which_kind(
    open_worker: Open, open_batch: Open, exported: InMemorySpanExporter, simulator: Any
) -> None:
    worker = await open_worker(max_attempts=2)
    simulator.control(failed={"rate": 1.0, "text": "CUDA out of memory"})
    one = work(worker)
    await open_batch(worker, one.prompt)
    await predict(one)
    (root,) = children(None, exported)
    attempts = children(root, exported)
    assert len(attempts) == 2
    for failed in (root, *attempts):
        assert failed.status.status_code is StatusCode.ERROR
        assert (failed.attributes or {})["error.type"] == "model_error"
        assert not failed.status.description


async def test_prompts_at_once_have_traces_of_their_own(
    open_worker: Open, open_batch: Callable[..., Awaitable[Batch]], exported: InMemorySpanExporter
) -> None:
    worker: Context = await open_worker()
    works = [work(worker, index) for index in range(5)]
    await open_batch(worker, *(one.prompt for one in works))
    await asyncio.gather(*map(predict, works))
    roots = children(None, exported)
    assert len(roots) == 5
    for root in roots:
        (attempt,) = children(root, exported)
        assert [one.name for one in children(attempt, exported)] == ["create", "wait", "save"]


def test_an_error_is_named_without_its_text(exported: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match=SECRET), span("save"):
        raise ValueError(SECRET)
    (one,) = exported.get_finished_spans()
    assert (one.attributes or {})["error.type"] == "ValueError"
    assert SECRET not in one.to_json()
