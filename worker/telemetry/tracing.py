"""Sending spans to a collector, as the variables OTEL_* say; without them nothing is imported."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from jobs.config import export_variables
from worker.telemetry.metrics import our_version
from worker.telemetry.spans import Tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

logger = logging.getLogger(__name__)

SERVICE = "replicate-batch"

LIBRARIES = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")

FLUSH_SECONDS = 3.0
"""How long a worker that stops waits for its last spans to be sent."""


@asynccontextmanager
async def tracing() -> AsyncIterator[None]:
    """Record spans in the block if the environment or .env asks for it; what is wrong is logged."""
    provider = start_tracing(export_variables("OTEL_"))
    try:
        yield
    finally:
        Tracing.tracer = None
        if provider:
            # Not by atexit or in a pool, both of which wait for a collector that is away.
            flush = threading.Thread(target=provider.shutdown, name="traces-flush", daemon=True)
            flush.start()
            await asyncio.to_thread(flush.join, FLUSH_SECONDS)


def start_tracing(environment: Mapping[str, str]) -> TracerProvider | None:
    """Set the tracer; returns the provider that must be shut down, None when there is none or it is somebody else's."""
    if not is_configured(environment):
        return None
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider

        provider, ours = trace.get_tracer_provider(), None
        if not isinstance(provider, TracerProvider):  # as `opentelemetry-instrument` sets one
            provider = ours = _provider(environment)
    except ImportError as error:
        cure = f"pip install 'replicate-batch[otel]', or pip install {' '.join(LIBRARIES)}"
        logger.warning("! no traces: OTEL_* is set, but OpenTelemetry is not installed (%s): %s", error.name, cure)
        return None
    except Exception as error:  # noqa: BLE001 - of the SDK, about a variable; a worker works without traces
        logger.warning("! no traces: %s: %s", type(error).__name__, error)
        return None
    Tracing.tracer = provider.get_tracer(SERVICE, our_version())
    return ours


def is_configured(environment: Mapping[str, str]) -> bool:
    """Whether the variables name an exporter of traces, or its address."""
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    addresses = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if exporter == "none" or environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return bool(exporter) or any(environment.get(name) for name in addresses)


def _provider(environment: Mapping[str, str]) -> TracerProvider:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    is_named = "OTEL_SERVICE_NAME" in environment or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    name = {} if is_named else {"service.name": SERVICE}
    resource = Resource.create({**name, "service.version": our_version()})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_exporter(environment)))
    return provider


def _exporter(environment: Mapping[str, str]) -> Any:
    """The exporter that OTEL_TRACES_EXPORTER names, of those that are installed; OTLP over HTTP unless it says else."""
    name = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    if name == "otlp":
        protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get(
            "OTEL_EXPORTER_OTLP_PROTOCOL"
        )
        name = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    for found in entry_points(group="opentelemetry_traces_exporter", name=name):
        return found.load()()
    raise LookupError(f"no exporter of that name is installed: {name}")
