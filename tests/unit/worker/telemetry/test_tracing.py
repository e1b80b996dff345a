from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from worker.telemetry import tracing as module
from worker.telemetry.spans import Tracing, note, span
from worker.telemetry.tracing import is_configured, start_tracing, tracing

ADDRESS = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Nothing of the developer's, and nothing of the test's is left."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith("OTEL_")]:
        del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)
    Tracing.tracer = None


class Collector(HTTPServer):
    """An OTLP receiver over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[ExportTraceServiceRequest] = []


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("environment", "configured"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "mine"}, False),
        ({ADDRESS: ""}, False),
        ({ADDRESS: "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({ADDRESS: "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({ADDRESS: "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_what_asks_for_traces(environment: dict[str, str], configured: bool) -> None:  # noqa: FBT001
    assert is_configured(environment) is configured


async def test_spans_reach_the_collector_of_the_settings_file(collector: Collector) -> None:
    lines = f"{ADDRESS}=http://127.0.0.1:{collector.server_port}\nOTEL_RESOURCE_ATTRIBUTES=zone=eu\n"
    await asyncio.to_thread(Path(".env").write_text, lines)
    async with tracing():
        with span("prompt", {"replicate_batch.batch": "night"}):
            note({"replicate_batch.attempts": 2})
    ((resource,),) = (request.resource_spans for request in collector.requests)
    about = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert (about["service.name"], about["zone"]) == ("replicate-batch", "eu")
    (sent,) = resource.scope_spans[0].spans
    assert sent.name == "prompt"
    assert {one.key for one in sent.attributes} == {"replicate_batch.batch", "replicate_batch.attempts"}
    assert Tracing.tracer is None


async def test_nothing_is_imported_or_recorded_unless_it_is_asked_for() -> None:
    async with tracing():
        assert Tracing.tracer is None
        with span("prompt"):
            note({"a": 1})


async def test_a_collector_that_is_away_delays_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.05)
    released = threading.Event()

    class Stuck:
        def shutdown(self) -> None:
            released.wait(10)

    monkeypatch.setattr(module, "start_tracing", lambda _: Stuck())
    async with tracing():
        pass
    released.set()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "nothing"}, "no exporter of that name is installed: nothing"),
        ({ADDRESS: "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "otlp_proto_grpc"),
    ],
)
def test_what_is_wrong_is_said(caplog: pytest.LogCaptureFixture, environment: dict[str, str], said: str) -> None:
    assert start_tracing(environment) is None
    assert said in caplog.text
    assert Tracing.tracer is None


def test_without_the_library_the_command_that_installs_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert start_tracing({ADDRESS: "http://127.0.0.1:4318"}) is None
    assert "pip install 'replicate-batch[otel]', or pip install opentelemetry-sdk opentelemetry-exporter" in caplog.text
