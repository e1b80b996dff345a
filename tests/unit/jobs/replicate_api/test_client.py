from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import metadata
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.config import Config
from jobs.errors import (
    AccountRefused,
    Blocked,
    BrokenDownload,
    ConfigError,
    FileRefused,
    InvalidRequest,
    NotFound,
    NotSent,
    OutputError,
    OutputGone,
    RateLimited,
    ReplicateError,
    Unanswered,
)
from jobs.replicate_api.client import API_CONNECTIONS, api_client, call
from jobs.replicate_api.refusals import refusal
from jobs.replicate_api.stated_wait import LONGEST_WAIT
from worker.outputs.file_host import files_client, open_file

TOKEN = "r8_secret"
API = "https://api.replicate.com"
FILE = "https://replicate.delivery/out.png"
HOSTS = ("replicate.delivery",)
UNSENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol", "InvalidURL"}


def family(error: type[Exception]) -> Iterator[type[Exception]]:
    yield error
    for child in error.__subclasses__():
        yield from family(child)


HTTPX_ERRORS = [
    error
    for root in (httpx.HTTPError, httpx.InvalidURL, httpx.CookieConflict, httpx.StreamError)
    for error in family(root)
    if error.__module__ == "httpx"
]
ERRORS: list[type[Exception]] = [*HTTPX_ERRORS, ssl.SSLError, ConnectionResetError, BrokenPipeError]


def made(error: type[Exception]) -> Exception:
    request = httpx.Request("GET", API)
    if error is httpx.HTTPStatusError:
        return httpx.HTTPStatusError("x", request=request, response=httpx.Response(500))
    try:
        return error("x")
    except TypeError:
        return error()


def raising(error: type[Exception]) -> Callable[[httpx.Request], httpx.Response]:
    def handle(_: httpx.Request) -> httpx.Response:
        raise made(error)

    return handle


class BreakingBody(httpx.AsyncByteStream):
    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"{"
        raise made(self.error)


def api(handle: Callable[[httpx.Request], httpx.Response]) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=API, transport=httpx.MockTransport(handle))


def config(**settings: Any) -> Config:
    return Config.load(replicate_api_token=TOKEN, **settings)


def test_the_whole_tree_of_httpx_is_looked_at() -> None:
    assert len(HTTPX_ERRORS) > 20


@pytest.mark.parametrize("error", ERRORS)
async def test_no_foreign_error_leaks_from_a_call(error: type[Exception]) -> None:
    async with api(raising(error)) as client:
        with pytest.raises(ReplicateError) as caught:
            await call(client, "POST", "/v1/predictions", json={})
    assert type(caught.value) is (NotSent if error.__name__ in UNSENT else Unanswered)
    assert "POST /v1/predictions" in str(caught.value)


@pytest.mark.parametrize("error", ERRORS)
async def test_no_foreign_error_leaks_from_the_body_of_an_answer(error: type[Exception]) -> None:
    async with api(lambda _: httpx.Response(201, stream=BreakingBody(error))) as client:
        with pytest.raises(ReplicateError):
            await call(client, "GET", "/v1/predictions")


@pytest.mark.parametrize("error", ERRORS)
async def test_no_foreign_error_leaks_from_a_download(error: type[Exception]) -> None:
    expected = FileRefused if error is httpx.InvalidURL else BrokenDownload
    async with api(raising(error)) as client:
        with pytest.raises(expected):
            async with open_file(client, FILE, hosts=HOSTS):
                pytest.fail("it opened")
    async with api(lambda _: httpx.Response(200, stream=BreakingBody(error))) as client:
        with pytest.raises(OutputError) as caught:
            async with open_file(client, FILE, hosts=HOSTS) as answer:
                assert [chunk async for chunk in answer.chunks] == []
    assert caught.value.url == FILE


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (400, InvalidRequest, "(400)"),
        (401, AccountRefused, "REPLICATE_API_TOKEN"),
        (402, AccountRefused, "billing"),
        (403, InvalidRequest, "(403)"),
        (404, NotFound, "(404)"),
        (408, Unanswered, "(408)"),
        (413, InvalidRequest, "(413)"),
        (422, InvalidRequest, "(422)"),
        (429, RateLimited, "rate limit"),
        (500, Unanswered, "(500)"),
        (502, Unanswered, "(502)"),
        (599, Unanswered, "(599)"),
        (301, Unanswered, "REPLICATE_BASE_URL"),
        (304, Unanswered, "REPLICATE_BASE_URL"),
    ],
)
async def test_each_status_is_one_error(status: int, error: type[ReplicateError], says: str) -> None:
    content = b'{"detail": "Some\\n reason."}'
    async with api(lambda _: httpx.Response(status, content=content)) as client:
        with pytest.raises(ReplicateError) as caught:
            await call(client, "GET", "/v1/predictions/x")
    assert type(caught.value) is error
    assert caught.value.status == status
    assert says in str(caught.value)
    assert ("Some reason." in str(caught.value)) is (status not in (301, 304))


HTML = {"content-type": "text/html; charset=UTF-8", "server": "cloudflare"}
PROBLEM = {"content-type": "application/problem+json", "server": "cloudflare"}
CLOUDFLARE = b'{"title": "Error 1015: You are being rate limited", "detail": "...", "cloudflare_error": true}'
FOREIGN: list[tuple[int, dict[str, str], bytes, type[ReplicateError]]] = [
    (403, HTML, b"<!DOCTYPE html><title>Attention Required! | Cloudflare</title>", Blocked),
    (403, PROBLEM, CLOUDFLARE, Blocked),
    (403, {}, b"", Blocked),
    (403, {"content-type": "application/json"}, b'{"message": "Forbidden"}', Blocked),
    (403, {}, b"error code: 1010", Blocked),
    (407, HTML, b"<html>", Blocked),
    (503, HTML, b"<html>", Blocked),
    (503, {"content-type": "text/plain"}, b"upstream connect error or disconnect/reset before headers", Unanswered),
    (503, {}, b"", Unanswered),
    (502, HTML, b"<html>", Unanswered),
    (524, PROBLEM, CLOUDFLARE, Unanswered),
    (401, HTML, b"<html>", Unanswered),
    (402, {}, b"", Unanswered),
    (404, HTML, b"<html>", Unanswered),
    (404, {}, b"[]", Unanswered),
    (400, HTML, b"<html>", Unanswered),
    (405, {}, b"\xff", Unanswered),
    (400, {}, b'{"version": ["This field is required."]}', InvalidRequest),
    (403, {"content-type": "application/problem+json"}, b'{"type": "about:blank"}', InvalidRequest),
    (403, {}, b'{"detail": "You do not have permission to perform this action."}', InvalidRequest),
    (413, HTML, b"<html><title>413 Request Entity Too Large</title>", InvalidRequest),
    (429, HTML, b"<html>", RateLimited),
    (429, {}, b"error code: 1015", RateLimited),
]


@pytest.mark.parametrize(("status", "headers", "content", "error"), FOREIGN)
def test_an_answer_in_the_apis_place_says_nothing_of_the_request(
    status: int, headers: dict[str, str], content: bytes, error: type[ReplicateError]
) -> None:
    refused = refusal(status, headers | {"retry-after": "15"}, content)
    assert type(refused) is error
    assert refused.status == status
    assert error is InvalidRequest or refused.retry_after == 15


@pytest.mark.parametrize("content", [b"", b"OK", b"[]", b'"x"', b"null", b'{"id": ', b"\xff\xfe", b"[" * 99_999])
async def test_an_unreadable_success_is_unanswered(content: bytes) -> None:
    async with api(lambda _: httpx.Response(201, content=content)) as client:
        with pytest.raises(Unanswered) as caught:
            await call(client, "POST", "/v1/predictions", json={})
    assert caught.value.status == 201


async def test_an_answer_is_body_and_headers() -> None:
    content = b'{"id": "old", "id": "new"}'
    async with api(lambda _: httpx.Response(202, content=content, headers={"Date": "today"})) as client:
        answer = await call(client, "POST", "/v1/predictions", json={})
    assert (answer.status, answer.body, answer.headers["date"]) == (202, {"id": "new"}, "today")


async def test_what_is_wrong_with_each_field_is_kept_and_said() -> None:
    fields = [{"type": "required", "field": "input.prompt", "description": "prompt is required"}]
    body = {"title": "Input validation failed", "detail": "- input:  prompt is required\n", "invalid_fields": fields}
    error = refusal(422, {}, json.dumps(body).encode())
    assert isinstance(error, InvalidRequest)
    assert error.fields == tuple(fields)
    expected = "Replicate refuses the request (422): Input validation failed: - input: prompt is required"
    assert str(error) == expected
    error = refusal(422, {}, json.dumps(body | {"detail": None}).encode())
    assert str(error).endswith("(422): Input validation failed: prompt is required")


THROTTLED = "Request was throttled. Your rate limit resets in ~30s."
REDUCED = (
    "Your rate limit for creating predictions is reduced to 6 requests per minute with a burst of 1 requests "
    "while you have less than $5.0 in credit. Your rate limit resets in ~5s."
)
DATES = {"retry-after": "Fri, 21 Nov 2025 10:00:40 GMT", "date": "Fri, 21 Nov 2025 10:00:00 GMT"}


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({}, {}, None),
        ({}, {"detail": THROTTLED}, 30),
        ({}, {"title": THROTTLED}, 30),
        ({}, {"detail": REDUCED, "retry_after": 5}, 5),
        ({}, {"detail": "Request was throttled. Expected available in 20 seconds."}, 20),
        ({}, {"detail": "Request was throttled. Expected available in 1 second."}, 1),
        ({}, {"detail": "Rate limit reached for requests. Please try again in 1m30s."}, 90),
        ({}, {"detail": "Please try again in 6ms. Visit https://x.example/limits to learn more."}, 0.006),
        ({}, {"detail": "Please try again in 1m12.5s"}, 72.5),
        ({}, {"message": "Too many requests, wait 5 minutes"}, 300),
        ({}, {"detail": "Please wait a minute before you retry."}, 60),
        ({}, {"detail": "Try again after 1 hour, 2 minutes and 3 seconds."}, LONGEST_WAIT),
        ({}, {"msg": "API usage exceeded rate limit, try again in 15.25 secs"}, 15.25),
        (
            {},
            {"error": "Limit exceeded. Consumed (req/min): 11. Please retry after 25s, resets at Wed Oct 23 2024"},
            25,
        ),
        ({}, {"detail": "Retry after 12"}, 12),
        ({}, {"detail": "Throttle resets at 2025-11-21 10:00:50 +0000"} | {}, None),
        ({"date": "Fri, 21 Nov 2025 10:00:00 GMT"}, {"detail": "resets at 2025-11-21T10:00:50Z"}, 50),
        ({}, {"detail": "You may retry 3 times; the limit is 600 requests in 1 minute."}, None),
        ({}, {"retry_after": 2.5}, 2.5),
        ({}, {"retry_after": "7"}, 7),
        ({}, {"retryAfter": 8}, 8),
        ({}, {"retry_after_ms": 1500}, 1.5),
        ({}, {"error": {"details": [{"retryDelay": "34.07s"}]}}, 34.07),
        ({}, {"parameters": {"retry_after": 35}}, 35),
        ({}, {"retry_after": None, "detail": ["x"]}, None),
        ({"retry-after": "12"}, {}, 12),
        ({"retry-after": "15s"}, {}, 15),
        ({"retry-after": "0"}, {}, None),
        ({"retry-after": "3"}, {"detail": THROTTLED}, 30),
        ({"retry-after": "60"}, {"detail": THROTTLED}, 60),
        ({"retry-after-ms": "250"}, {}, 0.25),
        ({"x-ratelimit-reset-after": "4.5"}, {}, 4.5),
        ({"x-ratelimit-reset-requests": "1m30s"}, {}, 90),
        ({"x-ratelimit-reset": "1763719260", "date": "Fri, 21 Nov 2025 10:00:00 GMT"}, {}, 60),
        ({"x-ratelimit-reset": "1763719260000", "date": "Fri, 21 Nov 2025 10:00:00 GMT"}, {}, 60),
        ({"x-ratelimit-reset": "3000", "retry-after": "5"}, {}, 5),
        ({"ratelimit-reset": "1"}, {}, None),
        (DATES, {}, 40),
        (DATES | {"date": "Fri, 21 Nov 2025 11:00:00 GMT"}, {}, None),
        (DATES | {"date": "whenever"}, {}, None),
        ({"retry-after": "Fri, 21 Nov 2025 10:00:40 GMT"}, {}, None),
        ({"retry-after": "soon"}, {}, None),
        ({"retry-after": "-5"}, {}, None),
        ({"retry-after": "nan"}, {}, None),
        ({"retry-after": "inf"}, {}, None),
        ({"retry-after": "999999999"}, {}, LONGEST_WAIT),
    ],
)
def test_a_429_says_how_long_to_wait(headers: dict[str, str], body: dict[str, Any], seconds: float | None) -> None:
    error = refusal(429, headers, json.dumps(body).encode())
    assert isinstance(error, RateLimited)
    assert error.retry_after == pytest.approx(seconds)
    assert error.reduced is (body.get("detail") == REDUCED)


@given(st.integers(300, 599), st.dictionaries(st.text(), st.text()) | st.binary() | st.lists(st.integers()))
def test_any_body_gives_an_error_with_one_line(status: int, body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    error = refusal(status, {"retry-after": str(body)[:40], "date": str(body)[:40]}, content)
    assert error.status == status
    assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["detail", "title"])
@given(st.text())
def test_any_text_of_replicate_fits_in_the_message(name: str, text: str) -> None:
    assert len(str(refusal(422, {}, json.dumps({name: text * 100}).encode()))) < 600


async def test_only_the_api_client_has_the_token_and_only_its_requests_show_it() -> None:
    async with api_client(config()) as client, files_client(config()) as files:
        assert client.headers["Authorization"] == f"Bearer {TOKEN}"
        assert "Authorization" not in files.headers
        for client_ in (client, files):
            assert client_.headers["User-Agent"].startswith("replicate-batch")
        request = client.build_request("GET", "/v1/account")
        for thing in (client, client.headers, request, request.headers):
            assert TOKEN not in repr(thing)


async def test_a_checkout_that_is_not_installed_has_a_name_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.replicate_api.client.version", lambda _: metadata.version("no-such-distribution"))
    async with files_client(config()) as client:
        assert client.headers["User-Agent"] == "replicate-batch"


async def test_without_a_token_no_authorization_is_sent() -> None:
    async with api_client(Config.load()) as client:
        assert "Authorization" not in client.headers


@pytest.mark.parametrize("token", ["r8_a b", "r8_ä", "r8_\x00", "a\nb"])
def test_a_token_that_is_none_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(ConfigError, match="REPLICATE_API_TOKEN") as caught:
        api_client(Config.load(replicate_api_token=token))
    assert token not in str(caught.value)


async def test_white_space_around_the_token_is_cut_off() -> None:
    async with api_client(Config.load(replicate_api_token=f"{TOKEN}\n")) as client:
        assert client.headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    "url", ["https://evil.example/v1", "http://api.replicate.com/v1", "https://api.replicate.com:444/v1"]
)
async def test_the_token_goes_to_no_other_host(url: str) -> None:
    async with api(lambda _: pytest.fail("it was sent")) as client:
        with pytest.raises(NotSent):
            await call(client, "GET", url)


async def test_a_whole_url_of_the_api_is_called() -> None:
    async with api(lambda request: httpx.Response(200, json={"path": request.url.path})) as client:
        answer = await call(client, "GET", "https://api.replicate.com:443/v1/predictions?cursor=x")
    assert answer.body == {"path": "/v1/predictions"}


async def test_any_json_can_be_sent() -> None:
    """Half a surrogate pair in a prompt cannot be encoded as UTF-8, but can be escaped."""

    def echo(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"type": request.headers["content-type"], "text": request.content.decode()})

    async with api(echo) as client:
        answer = await call(client, "POST", "/v1/predictions", json={"input": "\ud800é"}, headers={"Prefer": "wait"})
    assert answer.body == {"type": "application/json", "text": '{"input":"\\ud800\\u00e9"}'}


async def test_blocking_mode_has_a_connection_for_each_prediction() -> None:
    """Asked of the transport itself: nothing public tells its size."""
    sizes = []
    for wait in (0, 60):
        async with api_client(config(prefer_wait=wait, max_in_flight=100)) as client:
            sizes.append(client._transport.connections)  # type: ignore[attr-defined]  # noqa: SLF001 - see above
    assert sizes == [API_CONNECTIONS, API_CONNECTIONS + 100]


@pytest.mark.parametrize(("status", "error"), [(403, OutputGone), (404, OutputGone), (410, OutputGone)])
async def test_what_the_file_host_has_no_more_is_gone(status: int, error: type[OutputError]) -> None:
    async with api(lambda _: httpx.Response(status)) as client:
        with pytest.raises(error):
            async with open_file(client, FILE, hosts=HOSTS):
                pytest.fail("it opened")


@pytest.mark.parametrize("status", [204, 302, 400, 401, 429, 500, 503])
async def test_other_answers_of_the_file_host_are_worth_another_try(status: int) -> None:
    async with api(lambda _: httpx.Response(status)) as client:
        with pytest.raises(BrokenDownload, match=str(status)):
            async with open_file(client, FILE, hosts=HOSTS):
                pytest.fail("it opened")
