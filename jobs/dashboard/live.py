"""Server-sent events: the parts of a page that change are rendered once for everybody who looks at it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from starlette.responses import StreamingResponse

logger = logging.getLogger(__name__)

Parts = Mapping[str, str]
"""HTML by the id of the element that it replaces."""

EVERY = 1.0
"""Seconds between two looks at what a page shows."""

PING = 15.0
"""Seconds of silence after which a comment shows that the connection lives, to proxies too."""


class Feed:
    """The changing parts of one page; nothing is read while nobody looks."""

    def __init__(self, render: Callable[[], Awaitable[Parts]], every: float = EVERY) -> None:
        self._render, self._every = render, every
        self._parts: Parts = {}
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.readers = 0

    async def stream(self) -> AsyncIterator[str]:
        """Yield events: all parts first, then each that changes."""
        self.readers += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._refresh())
        seen: dict[str, str] = {}
        try:
            yield "retry: 2000\n\n"
            while True:
                changes = self._news(seen)
                seen.update(changes)
                yield "".join(event(name, html) for name, html in changes.items()) or ": still here\n\n"
                await self._wait(seen)
        finally:
            self.readers -= 1

    async def _wait(self, seen: Parts) -> None:
        async with self._changed:
            try:
                async with asyncio.timeout(PING):
                    await self._changed.wait_for(
                        lambda: any(seen.get(name) != html for name, html in self._parts.items())
                    )
            except TimeoutError:
                return

    def _news(self, seen: Parts) -> dict[str, str]:
        return {name: html for name, html in self._parts.items() if seen.get(name) != html}

    async def _refresh(self) -> None:
        while self.readers:
            try:
                parts = await self._render()
            except Exception:  # the page says itself what is wrong; the next look may succeed
                logger.exception("a page's parts could not be rendered")
            else:
                async with self._changed:
                    self._parts = parts
                    self._changed.notify_all()
            await asyncio.sleep(self._every)


class Feeds:
    """The feeds of all pages that are open, by their address."""

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}

    def respond(self, address: str, render: Callable[[], Awaitable[Parts]]) -> StreamingResponse:
        """Answer with the events of one address; feeds without readers are forgotten."""
        self._feeds = {name: feed for name, feed in self._feeds.items() if feed.readers or name == address}
        feed = self._feeds.setdefault(address, Feed(render))
        headers = {"x-accel-buffering": "no"}  # nginx would keep events back
        return StreamingResponse(feed.stream(), media_type="text/event-stream", headers=headers)


def event(name: str, html: str) -> str:
    """One event; JSON keeps it in one line whatever the HTML holds."""
    return f"event: part\ndata: {json.dumps({'id': name, 'html': html})}\n\n"
