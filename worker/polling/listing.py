"""The account's list of predictions, page by page, each page a request through the gate."""

from __future__ import annotations

from collections.abc import AsyncIterator

from jobs.replicate_api.predictions import Page, Replicate
from worker.limits.request_gate import RequestGate


async def list_pages(
    replicate: Replicate, gate: RequestGate, since: float, until: float | None = None
) -> AsyncIterator[Page]:
    """Pages of predictions created in a span of Unix seconds by our clock, newest first."""
    offset, cursor = replicate.clock_offset, None
    read: set[str | None] = set()
    until = until + offset if until else None
    while True:
        async with gate.passing("read"):
            page = await replicate.list(since=since + offset, until=until, cursor=cursor)
        yield page
        read.add(cursor)
        cursor = page.next
        if cursor is None or cursor in read:  # a list that leads back into itself has no more to show
            return
