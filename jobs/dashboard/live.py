"""Server-sent events: the parts of a page that change are rendered once for everybody who looks at it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

logger = logging.getLogger(__name__)

Part = str | dict[str, str]
"""HTML of one element; or of a list's elements, each by its key, in their order."""

Parts = Mapping[str, Part]
"""What is on a page, by the id of the element that it replaces or fills."""

EVERY = 1.0
"""Seconds between two looks at what a page shows."""

MOST_OPEN = 200
"""Feeds of all pages together; each has a connection."""

TRY_AGAIN = 60
"""Seconds after which a page that got no feed may try again."""

PING = 15.0
"""Seconds of silence after which a comment shows that the connection lives, to proxies too."""

PING_EVENT = ": still here\n\n"


class Feed:
    """The changing parts of one page; nothing is read while nobody looks."""

    def __init__(self, render: Callable[[], Awaitable[Parts]], every: float = EVERY) -> None:
        self._render, self._every = render, every
        self._parts: Parts = {}
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self.readers = 0

    @property
    def parts(self) -> Parts:
        """What the page shows now; empty while nobody reads."""
        return self._parts if self.readers else {}

    async def stream(self) -> AsyncIterator[str]:
        """Yield events: all parts first, then each that changes."""
        self.readers += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._refresh())
        seen: dict[str, Part] = {}
        try:
            yield "retry: 2000\n\n"
            while not self._is_closed:
                changes = self._news(seen)
                yield "".join(event(name, part, seen.get(name)) for name, part in changes.items()) or PING_EVENT
                seen.update(changes)
                await self._wait(seen)
        finally:
            self.readers -= 1

    async def close(self) -> None:
        """End all streams."""
        self._is_closed = True
        async with self._changed:
            self._changed.notify_all()
        if self._task:
            self._task.cancel()

    async def _wait(self, seen: Parts) -> None:
        async with self._changed:
            try:
                async with asyncio.timeout(PING):
                    await self._changed.wait_for(
                        lambda: self._is_closed or any(seen.get(name) != html for name, html in self._parts.items())
                    )
            except TimeoutError:
                return

    def _news(self, seen: Parts) -> dict[str, Part]:
        return {name: part for name, part in self._parts.items() if seen.get(name) != part}

    async def _refresh(self) -> None:
        while self.readers:
            began = time.monotonic()
            try:
                parts = await self._render()
            except Exception:  # the next look may succeed
                logger.exception("a page's parts could not be rendered")
            else:
                async with self._changed:
                    self._parts = parts
                    self._changed.notify_all()
            await asyncio.sleep(max(self._every, 2 * (time.monotonic() - began)))


class Feeds:
    """The feeds of all pages that are open, by their address."""

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}

    @property
    def open(self) -> int:
        """How many are being read."""
        return sum(feed.readers for feed in self._feeds.values())

    async def respond(self, request: Request, address: str, render: Callable[[], Awaitable[Parts]]) -> Response:
        """Answer with the events of one address; with those of now only, if its query has `once`.

        503 when too many are open: the page then asks for those of now every few seconds.
        """
        if "once" in request.query_params:
            feed = self._feeds.get(address)
            parts = (feed and feed.parts) or await render()
            text = "".join(event(name, part) for name, part in parts.items())
            return Response(text, media_type="text/event-stream")
        if self.open >= MOST_OPEN:
            problem = f"{MOST_OPEN} pages are open that show each change at once; this one asks every few seconds."
            return PlainTextResponse(problem, 503, {"retry-after": str(TRY_AGAIN)})
        return self._stream(address, render)

    def _stream(self, address: str, render: Callable[[], Awaitable[Parts]]) -> StreamingResponse:
        """The events from now on; feeds without readers are forgotten."""
        self._feeds = {name: feed for name, feed in self._feeds.items() if feed.readers or name == address}
        feed = self._feeds.setdefault(address, Feed(render))
        headers = {"x-accel-buffering": "no"}  # nginx would keep events back
        return StreamingResponse(feed.stream(), media_type="text/event-stream", headers=headers)

    async def close(self) -> None:
        """End all events: a server that stops would wait for them."""
        for feed in self._feeds.values():
            await feed.close()


def event(name: str, part: Part, before: Part | None = None) -> str:
    """One event; JSON keeps it in one line whatever the HTML holds. Of a list, only what is new or has changed."""
    if isinstance(part, str):
        return f"event: part\ndata: {json.dumps({'id': name, 'html': part})}\n\n"
    known = before if isinstance(before, dict) else {}
    new = {key: html for key, html in part.items() if known.get(key) != html}
    return f"event: list\ndata: {json.dumps({'id': name, 'keys': list(part), 'html': new})}\n\n"
