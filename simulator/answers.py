"""Answers of the API: JSON bodies, and RFC 7807 problem documents for errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_canonical = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


def compact(value: Any) -> bytes:
    """JSON without white space, UTF-8."""
    return _compact(value).encode("utf-8", "surrogatepass")


def canonical(value: Any) -> bytes:
    """One text for equal values: sorted keys."""
    return _canonical(value).encode()


def timestamp(seconds: float, digits: int = 6) -> str:
    """Unix seconds as ISO 8601 in UTC, with 3, 6 or 9 digits of fraction."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:26]
    return f"{text[:-3] if digits == 3 else text}{'000' if digits == 9 else ''}Z"


def json_answer(body: Any, status: int = 200) -> Response:
    """An answer with that JSON."""
    return Response(compact(body), status, media_type="application/json")


class Problem(Exception):
    """Raised anywhere while answering a call; becomes its answer."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        title: str | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.headers = status, dict(headers or {})
        self.body = {"title": title, "detail": detail, "status": status, **more}
        if title is None:
            del self.body["title"]

    def answer(self) -> Response:
        """The HTTP answer."""
        return Response(compact(self.body), self.status, self.headers, "application/problem+json")


def invalid(fields: list[dict[str, str]]) -> Problem:
    """422 with one entry for each wrong field: its name in the input and what is wrong."""
    detail = "".join(f"- {each['field']}: {each['description']}\n" for each in fields)
    return Problem(422, detail, title="Input validation failed", invalid_fields=fields)


def not_found() -> Problem:
    """404 as the API words it."""
    return Problem(404, "The requested resource could not be found.")


def error_page(status: int, form: str, retry_after: Any = None) -> Response:
    """An error of the API (`problem`) or of something before it: `html`, `cloudflare` (asked for JSON), `empty`."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if form == "problem":
        return Problem(status, "An internal error occurred.", title="Internal error", headers=headers).answer()
    headers["Server"] = "cloudflare"
    if form == "cloudflare":
        more = {"cloudflare_error": True, "error_code": 1015, "retry_after": retry_after}
        return Problem(status, "You are being blocked.", title="Error 1015", headers=headers, **more).answer()
    page = f"<html><head><title>{status}</title></head><body><center>cloudflare</center></body></html>"
    return Response(page if form == "html" else b"", status, headers, "text/html")
