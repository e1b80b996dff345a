"""Spans of OpenTelemetry: one for each prompt, its attempts below it, and their steps below those.

Without a tracer, which `tracing` sets, nothing is recorded. No span has a text of a prompt, an output or an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

Attributes = Mapping[str, str | int | float]


class Tracing:
    """The tracer of this process, if there is one."""

    tracer: Tracer | None = None


_UNRECORDED = nullcontext()


def span(name: str, attributes: Attributes | None = None, *, client: bool = False) -> AbstractContextManager[None]:
    """Record the block as a span below the current one; `client`: it is a request to another service."""
    tracer = Tracing.tracer
    return _recorded(tracer, name, attributes, client=client) if tracer else _UNRECORDED


@contextmanager
def _recorded(tracer: Tracer, name: str, attributes: Attributes | None, *, client: bool) -> Iterator[None]:
    from opentelemetry.trace import SpanKind, Status, StatusCode

    kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
    with tracer.start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield
        except Exception as error:
            current.set_status(Status(StatusCode.ERROR))
            current.set_attribute("error.type", type(error).__name__)
            raise


def note(attributes: Attributes, *, error: str = "") -> None:
    """Add attributes to the current span, and say that it ended in an error of this kind."""
    if Tracing.tracer is None:
        return
    from opentelemetry.trace import Status, StatusCode, get_current_span

    current = get_current_span()
    current.set_attributes(dict(attributes))
    if error:
        current.set_status(Status(StatusCode.ERROR))
        current.set_attribute("error.type", error)
