"""The dashboard in a real browser. Chromium must be installed; a missing one fails the tests."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
from PIL import Image
from playwright.async_api import Page, async_playwright, expect
from pydantic import SecretStr

from jobs.config import Config
from jobs.dashboard import live
from jobs.dashboard.actions import question
from jobs.enqueue.order import Order
from jobs.operations.operations import Operations
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
EVIL = "</script><script>hacked = 1</script><img src=x onerror='hacked = 1'><svg onload='hacked = 1'>"
SVG = "<svg xmlns='http://www.w3.org/2000/svg'><script>document.title = 'hacked'</script><rect width='9'/></svg>"
UNNAMED = """[...document.querySelectorAll("button, input:not([type=hidden])")]
  .filter((one) => !(one.ariaLabel || one.labels?.length || one.textContent.trim())).map((one) => one.outerHTML)"""


expect.set_options(timeout=30_000)  # of a machine that has much to do


def browser_path() -> str:
    found = next(filter(None, map(shutil.which, (*BROWSERS, MAC))), None)
    if found is None:
        pytest.fail("No Chromium is installed, which these tests drive. On Debian: apt-get install chromium")
    return found


@pytest.fixture
async def page(browser: Any) -> AsyncIterator[Page]:
    """A page of a real browser at a dashboard; whatever it complains of fails the test."""
    async with open_page(str(browser.base_url)) as page:
        yield page


@asynccontextmanager
async def open_page(url: str, expected: str = "sandboxed") -> AsyncIterator[Page]:
    complaints: list[str] = []
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=browser_path(), args=QUIET)
        context = await chromium.new_context(base_url=url, viewport={"width": 1200, "height": 900})
        page = await context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        yield page
        await chromium.close()
    assert [text for text in complaints if expected not in text] == []


def file(path: str) -> dict[str, Any]:
    return {"path": path, "url": "u", "bytes": 9, "sha256": "0"}


def draw(path: Any) -> None:
    Image.effect_noise((700, 500), 90).convert("RGB").save(path)


async def test_a_picture_comes_without_a_reload_and_opens(night: Any, page: Page) -> None:
    night.write_rows(*({"id": one, "input": {"prompt": f"a {one}"}} for one in ("cat", "dog")))
    await night.open(2)
    await page.goto("/batches/night")
    await expect(page.locator("#p0")).to_contain_text("no result yet")
    for index, name in enumerate(("cat", "dog")):
        path = f"{name}/output.png"
        draw(night.write_record(index, name, files=[file(path)], saved_at="2026-01-01T00:00:00Z") / "output.png")
        await night.settle(index)
    picture = page.locator("#p0 img")
    await expect(picture).to_be_visible()
    await expect(picture).to_have_js_property("naturalWidth", 512)
    await expect(page.locator("#summary")).to_contain_text("succeeded")
    await picture.click()
    viewer = page.get_by_role("dialog", name="Full size")
    await expect(viewer.locator("aside")).to_contain_text("a cat")
    await page.keyboard.press("4")
    await expect(viewer.get_by_role("button", name="Rate 4 of 5")).to_have_attribute("aria-pressed", "true")
    await page.keyboard.press("ArrowRight")
    await expect(viewer.locator("aside")).to_contain_text("a dog")
    await page.keyboard.press("x")
    await expect(viewer.get_by_role("button", name="Reject")).to_have_attribute("aria-pressed", "true")
    await page.keyboard.press("Escape")
    await expect(viewer).to_be_hidden()
    reviews = {line["id"]: line for line in map(json.loads, night.folder.reviews.read_text().splitlines())}
    assert (reviews["cat"]["rating"], reviews["dog"]["rejected"]) == (4, True)


async def test_what_people_and_models_write_does_nothing(night: Any, page: Page) -> None:
    night.write_rows(*({"id": one, "input": {"prompt": EVIL}} for one in ("cat", "dog", "owl")))
    await night.open(3)
    await night.end(0, "cat", "failed", error={"kind": "model_error", "message": EVIL})
    (night.write_record(1, "dog", files=[file("dog/output.svg")], output=EVIL) / "output.svg").write_text(SVG)
    await night.settle(1)
    page_html = night.write_record(2, "owl", files=[file("owl/output.html")]) / "output.html"
    page_html.write_text(EVIL)
    await night.settle(2)
    await page.goto("/batches/night")
    await expect(page.locator("#p0")).to_contain_text("onerror")
    await expect(page.locator("#p1 img")).to_have_js_property("complete", True)  # noqa: FBT003 - its name
    await page.goto(f"/batches/night?text={EVIL.replace('<', '%3C')}")
    assert await page.evaluate("typeof hacked") == "undefined"
    await page.goto("/batches/night/files/dog/output.svg")
    assert "hacked" not in await page.title()


async def test_an_action_is_asked_done_and_logged(
    page: Page, config: Config, redis: Redis, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(question, "MANY", 0)
    source = tmp_path / "night.jsonl"
    source.write_text('{"id": "cat", "input": {"prompt": "a cat"}}\n')
    await Operations(config, redis).enqueue(Order(str(source), model="owner/name", model_check=False))
    await page.goto("/batches/night")
    await page.get_by_role("button", name="Cancel …").click()
    dialog = page.get_by_role("dialog", name="Cancel the batch")
    await expect(dialog).to_contain_text("1 prompt would never be created")
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    assert not (await Batches(redis).get("night")).cancel_requested
    await page.get_by_role("button", name="Cancel …").click()
    await dialog.get_by_role("textbox", name="Type night to go on").fill("night")
    await dialog.get_by_role("button", name="Cancel what is not done").click()
    await expect(page.get_by_role("dialog", name="Done")).to_contain_text("will be canceled")
    assert (await Batches(redis).get("night")).cancel_requested
    await page.goto("/")
    await expect(page.locator("#actions")).to_contain_text("cancel night")


async def test_a_phone_a_keyboard_and_the_dark_are_enough(night: Any, page: Page) -> None:
    night.write_rows(*({"id": f"cat--{n}", "input": {"prompt": "a" * 300}} for n in range(3)))
    await night.open(3)
    await page.emulate_media(color_scheme="dark")
    await page.set_viewport_size({"width": 390, "height": 800})
    for path in ("/", "/batches/night", "/batches/night/compare?id=cat--0&id=cat--1"):
        await page.goto(path)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    await page.goto("/batches/night")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    assert await page.evaluate(UNNAMED) == []
    heading = page.get_by_role("button", name="cat", exact=True)
    await heading.press("Enter")
    await expect(page.locator("#p0")).to_be_hidden()
    await heading.press("Enter")
    await page.locator("#p0 [data-pick]").check()
    await page.locator("#p1 [data-pick]").check()
    await page.get_by_role("link", name="Compare 2").click()
    await expect(page.locator("#p1")).to_be_visible()


async def test_a_token_opens_a_session(serve_dashboard: Any) -> None:
    token = "a-token-that-is-long-enough"
    server = await serve_dashboard(dashboard_token=SecretStr(token))
    async with open_page(str(server.base_url)) as page:
        await page.goto("/?a=1")
        await page.get_by_role("textbox", name="Token").fill(token)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator("#limits")).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("textbox", name="Token")).to_be_visible()


async def test_many_pages_of_one_browser_load(night: Any, page: Page) -> None:
    night.write_rows({"id": "cat", "input": {"prompt": "a cat"}})
    await night.open(1)
    pages = [page] + [await page.context.new_page() for _ in range(7)]
    for one in pages:
        await one.goto("/batches/night")
        await one.bring_to_front()
    await night.end(0, "cat")
    for one in pages:
        await one.bring_to_front()
        await expect(one.locator("#p0")).to_contain_text("no output")


async def test_a_page_asks_when_too_many_are_open(
    night: Any, serve_dashboard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_OPEN", 0)
    night.write_rows({"id": "cat", "input": {"prompt": "a cat"}})
    await night.open(1)
    server = await serve_dashboard()
    async with open_page(str(server.base_url), expected="status of 503") as page:
        await page.goto("/batches/night")
        await night.end(0, "cat")
        await expect(page.locator("#p0")).to_contain_text("no output")
        await expect(page.locator("body")).not_to_have_class("away")


async def test_a_page_outlives_its_dashboard(night: Any, serve_dashboard: Any) -> None:
    night.write_rows({"id": "cat", "input": {"prompt": "a cat"}})
    await night.open(1)
    server = await serve_dashboard()
    async with open_page(str(server.base_url), expected="Failed to load resource: net::ERR") as page:
        await page.goto("/batches/night")
        await expect(page.locator("#p0")).to_contain_text("no result yet")
        await server.stop_server()
        await expect(page.locator("body")).to_have_class("away")
        await night.end(0, "cat")
        await serve_dashboard(port=server.base_url.port)
        await expect(page.locator("#p0")).to_contain_text("no output")
        await expect(page.locator("body")).not_to_have_class("away")


async def test_a_page_asks_when_a_proxy_keeps_events_back(night: Any, browser: Any, raw_server: Any) -> None:
    night.write_rows({"id": "cat", "input": {"prompt": "a cat"}})
    await night.open(1)

    async def keep_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).replace(b"keep-alive", b"close")
        if b"/events" in head and b"once=" not in head:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            await reader.read()
        server, answer = await asyncio.open_connection(browser.base_url.host, browser.base_url.port)
        with closing(answer):
            answer.write(head)
            writer.write(await server.read())
            await writer.drain()

    async with open_page(f"http://{await raw_server(keep_back)}") as page:
        await page.clock.install()
        await page.goto("/batches/night")
        await night.end(0, "cat")
        await expect(page.locator("#p0")).to_contain_text("no result yet")
        await page.clock.fast_forward(10_000)
        await expect(page.locator("#p0")).to_contain_text("no output")
