"""A browser that is installed already, for what only a browser can measure."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from playwright.sync_api import Page, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"


@contextlib.contextmanager
def open_browser() -> Iterator[Page]:
    """A page of Chromium; RuntimeError where there is none."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise RuntimeError("no Chromium is installed; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser.new_page(viewport={"width": 1280, "height": 900})
        finally:
            browser.close()


def first_paint(page: Page, url: str) -> float:
    """Seconds from the request for a page to its first content on the screen."""
    page.goto(url, wait_until="load")
    page.wait_for_function(f"({_FIRST_PAINT}) > 0")
    return float(page.evaluate(_FIRST_PAINT)) / 1e3


def heap(page: Page) -> int:
    """Bytes of the page's live JavaScript objects."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    session.detach()
    return int(metrics["JSHeapUsedSize"])
