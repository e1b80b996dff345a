"""The dashboard: what open pages cost it and a worker, a long batch watched to its end, and how fast its gallery is."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
from PIL import Image
from playwright.sync_api import Page

from benchmarks.browser import first_paint, heap, open_browser
from benchmarks.cases.comparison import prompts
from benchmarks.installation import NAME, Installation, install
from benchmarks.processes import MeasuredProcess, start_server, temporary_folder
from benchmarks.results import Figures, Rows

PAGES = 20
PICTURES = 200
"""Pictures of 1024 x 1024 pixels whose thumbnails are made."""

_AT_ONCE = 8
_ADDRESS = re.compile(r"http://\S+:\d+")
_WAIT = 60.0


def dashboard(count: int, long: int) -> Rows:
    """A batch of `count` prompts without and with open pages, and one of `long` watched in a browser."""
    return {
        "nobody looks": _watch(count, 0),
        f"{PAGES} pages open": _watch(count, PAGES),
        **_watch_long(long),
    }


def _watch(count: int, pages: int) -> Figures:
    with _installed(count) as ours:
        if not pages:
            used = ours.worker("--burst").wait()
            return {"prompts": count, "wall": used.wall, "cpu_ms": used.cpu / count * 1e3}
        with _serving(ours) as (process, url), _reading(_addresses(url, pages)) as received:
            before = process.cpu_so_far()
            used = ours.worker("--burst").wait()
            spent = process.cpu_so_far() - before
            return {
                "prompts": count,
                "wall": used.wall,
                "cpu_ms": used.cpu / count * 1e3,
                "dashboard": spent / used.wall,
                "sent_mb": sum(received) / 1e6,
                "peak_mb": psutil.Process(process.pid).memory_info().rss / 1e6,
            }


def _watch_long(count: int) -> Rows:
    """Memory of dashboard and page after a tenth of the batch and at its end, then the gallery of what came."""
    with _installed(count) as ours, _serving(ours) as (process, url), open_browser() as page:
        page.goto(f"{url}/batches/{NAME}")
        worker, started = ours.worker("--burst"), time.time()
        memory = []
        for share in (0.1, 1.0):
            while (done := ours.status()["succeeded"]) < share * count:
                time.sleep(1 if done else 0.2)
            page.wait_for_timeout(2_000)  # the page's next look
            memory.append((psutil.Process(process.pid).memory_info().rss, heap(page)))
        worker.wait()
        (first, first_page), (last, last_page) = memory
        rows = {
            "a tenth of it done": {"prompts": count / 10, "peak_mb": first / 1e6, "page_mb": first_page / 1e6},
            "all of it done": {
                "prompts": count, "wall": time.time() - started, "peak_mb": last / 1e6, "page_mb": last_page / 1e6
            },
        }  # fmt: skip
        return {**rows, "its gallery": {"prompts": count, **_look_at_gallery(ours, url, page)}}


def _look_at_gallery(ours: Installation, url: str, page: Page) -> Figures:
    """The first paint of the first page, its thumbnails not made yet; then how fast other thumbnails are."""
    paths = [path.relative_to(ours.batch.path) for path in _first_outputs(ours.batch.path, PICTURES)]
    picture = io.BytesIO()
    Image.effect_noise((1024, 1024), 90).convert("RGB").save(picture, "png")
    for path in paths:
        (ours.batch.path / path).write_bytes(picture.getvalue())
    paint = first_paint(page, f"{url}/batches/{NAME}")
    started = time.monotonic()
    with httpx.Client(base_url=url, timeout=_WAIT) as client, ThreadPoolExecutor(_AT_ONCE) as pool:
        shown = [f"/batches/{NAME}/thumbnails/{path}" for path in paths[PICTURES // 2 :]]
        for answer in pool.map(client.get, shown):
            answer.raise_for_status()
    return {"paint": paint, "thumbnails": len(shown) / (time.monotonic() - started)}


def _first_outputs(folder: Path, count: int) -> Sequence[Path]:
    """The first output of each of the first prompts."""
    rows = (folder / "results.jsonl").read_text().splitlines()[:count]
    ids = [match[1] for row in rows if (match := re.search(r'"id":\s*"([^"]+)"', row))]
    return [next((folder / prompt_id).glob("output*")) for prompt_id in ids]


@contextlib.contextmanager
def _installed(count: int) -> Iterator[Installation]:
    flags = ["--model=instant", "--files=1", "--bytes=1000"]
    with temporary_folder() as folder, start_server(flags) as server:
        file = folder / "prompts.jsonl"
        with file.open("w") as lines:
            lines.writelines(prompts(count))
        with install(folder, server.url, {}) as ours:
            ours.enqueue(file)
            yield ours


@contextlib.contextmanager
def _serving(ours: Installation) -> Iterator[tuple[MeasuredProcess, str]]:
    """A dashboard on a free port: its process and its address."""
    command = [sys.executable, "-m", "jobs", "dashboard", "--port", "0"]
    process = MeasuredProcess(command, ours.environment, ours.folder, "dashboard.log")
    try:
        deadline = time.monotonic() + _WAIT
        while not (found := _ADDRESS.search(process.log.read_text())):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the dashboard did not start:\n{process.log.read_text()[-3000:]}")
            time.sleep(0.05)
        yield process, found[0]
    finally:
        process.end()


def _addresses(url: str, pages: int) -> list[str]:
    """The events of as many overviews as batch pages."""
    return [f"{url}{'' if number % 2 else f'/batches/{NAME}'}/events" for number in range(pages)]


@contextlib.contextmanager
def _reading(addresses: Sequence[str]) -> Iterator[list[int]]:
    """Read the events of open pages in the block; the bytes that each received."""
    received, loop = [0] * len(addresses), asyncio.new_event_loop()

    async def read(client: httpx.AsyncClient, number: int) -> None:
        async with client.stream("GET", addresses[number]) as answer:
            async for chunk in answer.aiter_raw():
                received[number] += len(chunk)

    async def read_all() -> None:
        async with httpx.AsyncClient(timeout=3600) as client:
            await asyncio.gather(*(read(client, number) for number in range(len(addresses))))

    reading = loop.create_task(read_all())
    thread = threading.Thread(target=_run, args=(loop, reading))
    thread.start()
    try:
        yield received
    finally:
        loop.call_soon_threadsafe(reading.cancel)
        thread.join()


def _run(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
