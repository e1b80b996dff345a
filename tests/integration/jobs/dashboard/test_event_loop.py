from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from jobs.config import Config

_watched: list[tuple[str, int, list[str]]] = []


def _note_open(event: str, arguments: tuple[Any, ...]) -> None:
    """Note what the watched thread opens below the watched directory; a hook stays until the process ends."""
    if event == "open":
        for directory, thread, opened in _watched:
            if threading.get_ident() == thread and str(arguments[0]).startswith(directory):
                opened.append(str(arguments[0]))


@pytest.fixture
def opened(config: Config) -> Iterator[list[str]]:
    """What the event loop itself opens of the output folder: a slow disk would hold up all pages."""
    found: list[str] = []
    if not _watched:
        sys.addaudithook(_note_open)
    _watched.append((str(config.output_dir), threading.get_ident(), found))
    yield found
    _watched[:] = [("nowhere", 0, [])]


async def test_the_event_loop_opens_no_file_of_a_batch(night: Any, browser: Any, opened: list[str]) -> None:
    night.write_rows({"id": "cat", "input": {"prompt": "a cat"}}, {"id": "dog", "input": {"prompt": "a dog"}})
    await night.open(2)
    await night.end(0, "cat", "failed", error={"kind": "model_error", "message": "no"})
    opened.clear()
    for path in ("", "/events?once=1", "/files/cat/prediction.json", "/compare?id=cat&id=dog"):
        assert (await browser.get(f"/batches/night{path}")).status_code == 200
    for name in ("retry", "cancel", "limit", "pause", "resume", "rerun"):
        assert (await browser.get(f"/batches/night/actions/{name}?text=a")).status_code == 200
    await browser.press("/batches/night/review", "/batches/night", id="cat", rejected="1")
    await browser.press("/batches/night/actions/rerun", "/batches/night")
    assert (await browser.get("/")).status_code == 200
    assert opened == []
