from __future__ import annotations

from typing import Any

import pytest

from jobs.dashboard import live


async def test_of_too_many_feeds_one_is_refused_until_another_ends(
    night: Any, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_OPEN", 1)
    night.write_rows({"id": "cat", "input": {"prompt": "a cat"}})
    first = browser.events("/events")
    assert (await anext(first))["id"] == "outage"
    refused = await browser.get("/batches/night/events")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")
    assert "this one asks every few seconds" in refused.text
    for path in ("/events?once=1", "/batches/night/events?once=1"):
        assert (await browser.get(path)).text.startswith("event: part")
    await first.aclose()
    async for _ in retried(browser, "/batches/night/events"):
        return


async def retried(browser: Any, path: str) -> Any:
    """The events of a page, once the server has noticed that another has gone."""
    while True:
        async with browser.stream("GET", path) as answer:
            if answer.status_code == 200:
                yield answer
                return
