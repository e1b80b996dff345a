from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.request import urlopen

import pytest

from worker.telemetry import metrics_server
from worker.telemetry.metrics_server import MetricsServer, start_metrics_server

Start = Callable[[str, int], MetricsServer | None]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:

        def serve(host: str, port: int) -> MetricsServer | None:
            if server := start_metrics_server(host, port):
                stack.callback(server.server_close)
                stack.callback(server.shutdown)
            return server

        yield serve


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_the_metrics_are_at_the_url(start: Start, host: str) -> None:
    server = start(host, 0)
    assert server
    with urlopen(server.url) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        assert b"replicate_batch_saved_outputs_total" in answer.read()


def test_workers_of_one_machine_take_the_next_free_port(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    first = start("127.0.0.1", 0)
    assert first
    second = start("127.0.0.1", first.server_port)
    assert second
    assert first.server_port < second.server_port < first.server_port + metrics_server.PORTS
    assert f"port {first.server_port} is in use, so {second.server_port} is taken" in caplog.text
    with urlopen(second.url) as answer:
        assert answer.status == 200


def test_what_cannot_be_served_is_said_and_no_error(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    assert start("203.0.113.1", 0) is None
    said = "BATCH_METRICS_HOST=203.0.113.1, BATCH_METRICS_PORT=0: Cannot assign requested address"
    assert said.lower() in caplog.text.lower()


def test_a_range_without_a_free_port_is_said(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "PORTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert start("127.0.0.1", port) is None
    assert f"the ports {port} to {port} are all in use" in caplog.text
