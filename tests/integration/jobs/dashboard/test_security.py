from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from jobs.config import Config
from jobs.dashboard import sign_in as sign_in_module
from jobs.dashboard.pages import Dashboard
from jobs.dashboard.security import Access, is_loopback
from jobs.dashboard.server import access_for, create_server, listen
from jobs.errors import ConfigError
from jobs.redis_client.resilience import Redis

TOKEN = "a-token-that-is-long-enough"


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in_module, "AFTER_A_WRONG_TOKEN", 0.0)


async def test_a_page_may_load_nothing_from_elsewhere(browser: Any) -> None:
    found = await browser.get("/")
    assert found.status_code == 200
    policy = found.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert found.headers["x-content-type-options"] == "nosniff"
    assert " style=" not in found.text
    assert "onclick" not in found.text


async def test_another_host_name_gets_nothing(browser: Any) -> None:
    found = await browser.get("/", headers={"host": "rebound.example"})
    assert found.status_code == 421
    assert "set-cookie" not in found.headers


@pytest.mark.parametrize(
    "host", ["", "[::1", "localhost:port", "localhost/sign-in?", "localhost/static/#", "user@localhost", "local\xe9"]
)
async def test_a_host_that_is_no_host_gets_nothing(serve_dashboard: Any, host: str) -> None:
    browser = await serve_dashboard(dashboard_token=SecretStr(TOKEN))
    assert (await browser.get("/", headers={"host": host.encode("latin-1")})).status_code == 421


@pytest.mark.parametrize(
    "headers", [{"cookie": b"%s=a.b\xe9"}, {"x-csrf-token": b"\xe9"}, {"origin": b"http://[x"}, {"origin": b"\xe9"}]
)
async def test_headers_that_nobody_sends_are_refused_like_others(browser: Any, headers: dict[str, bytes]) -> None:
    page = await browser.get("/")
    token = page.text.partition('"x-csrf-token": "')[2].partition('"')[0].encode()
    name = next(iter(browser.cookies)).encode()
    sent = {"x-csrf-token": token, **{key: value.replace(b"%s", name) for key, value in headers.items()}}
    assert (await browser.post("/sign-out", headers=sent)).status_code == 403


@pytest.mark.usefixtures("_at_once")
async def test_a_form_has_a_limit_before_anybody_signs_in(serve_dashboard: Any) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"token=a"

    browser = await serve_dashboard(dashboard_token=SecretStr(TOKEN))
    assert (await browser.post("/sign-in", data={"token": "a" * 60_000})).status_code == 403
    assert (await browser.post("/sign-in", data={"token": "a" * 70_000})).status_code == 413
    assert (await browser.post("/sign-in", content=endless())).status_code == 413


async def test_stopping_ends_the_events_of_open_pages(config: Config, redis: Redis) -> None:
    listener = listen("127.0.0.1", 0)
    server = create_server(Dashboard(config, redis, access_for(config, "127.0.0.1", read_only=False)))
    serving = asyncio.create_task(server.serve([listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/events"
    async with httpx.AsyncClient() as client, client.stream("GET", url) as answer:
        lines = answer.aiter_lines()
        assert await anext(lines) == "retry: 2000"
        os.kill(os.getpid(), signal.SIGTERM)
        assert [line async for line in lines]  # it ends as an answer does, not cut off
    await serving  # the signal is not raised again: the process ends with 0


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-csrf-token": "0" * 64},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_a_forged_request_changes_nothing(browser: Any, headers: dict[str, str]) -> None:
    page = await browser.get("/")
    token = page.text.partition('"x-csrf-token": "')[2].partition('"')[0]
    sent = {"x-csrf-token": token, **headers} if headers else {}
    found = await browser.post("/sign-out", headers=sent)
    assert found.status_code == 403
    assert (await browser.post("/sign-out", headers={"x-csrf-token": token})).status_code == 204


@pytest.mark.usefixtures("_at_once")
async def test_with_a_token_nothing_is_shown_before_signing_in(serve_dashboard: Any) -> None:
    browser = await serve_dashboard("0.0.0.0", dashboard_token=SecretStr(TOKEN))
    found = await browser.get("/batches/night")
    assert (found.status_code, found.headers["location"]) == (303, "/sign-in?next=/batches/night")
    assert (await browser.get("/events", headers={"hx-request": "true"})).status_code == 401
    wrong = await browser.post("/sign-in", data={"token": "no", "next": "/"})
    assert wrong.status_code == 403
    assert "That is not the token" in wrong.text
    right = await browser.post("/sign-in", data={"token": TOKEN, "next": "/?a=1"})
    assert (right.status_code, right.headers["location"]) == (303, "/?a=1")
    assert (await browser.get("/")).status_code == 200
    assert (await browser.press("/sign-out")).headers["hx-redirect"] == "/sign-in"
    assert (await browser.get("/")).status_code == 303


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", ""])
async def test_signing_in_leads_nowhere_else(serve_dashboard: Any, target: str) -> None:
    browser = await serve_dashboard(dashboard_token=SecretStr(TOKEN))
    found = await browser.post("/sign-in", data={"token": TOKEN, "next": target})
    assert found.headers["location"] == "/"


async def test_a_read_only_dashboard_has_no_buttons_that_work(serve_dashboard: Any) -> None:
    browser = await serve_dashboard(read_only=True)
    assert "read-only" in (await browser.get("/")).text
    assert (await browser.press("/sign-out")).status_code == 403


def test_sessions_end_by_time_and_with_the_token() -> None:
    access = Access(frozenset(), TOKEN)
    cookie = access.open_session(1000.0)
    assert access.is_session(cookie, 1001.0)
    assert not access.is_session(cookie, 1000.0 + 31 * 86_400)
    assert not access.is_session(cookie.replace(".", "1.", 1), 1001.0)
    assert not Access(frozenset(), "another-token-of-them").is_session(cookie, 1001.0)
    assert not access.is_session("", time.time())
    assert not access.is_session("é.b.c", time.time())


def test_without_a_token_only_this_machine_is_served(config: Config) -> None:
    with pytest.raises(ConfigError, match="set BATCH_DASHBOARD_TOKEN"):
        access_for(config, "0.0.0.0", read_only=True)
    short = config.model_copy(update={"dashboard_token": SecretStr("short")})
    with pytest.raises(ConfigError, match="too short"):
        access_for(short, "127.0.0.1", read_only=False)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.0.0.9", True), ("::1", True), ("[::1]", True), ("0.0.0.0", False), ("example", False)],
)
def test_loopback_addresses_are_known(host: str, *, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_port_in_use_is_a_clear_error() -> None:
    with listen("127.0.0.1", 0) as used:
        port = used.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: .*--port 0 takes any"):
            listen("127.0.0.1", port)
