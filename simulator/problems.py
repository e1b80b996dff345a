"""Answers that are not what was asked for: RFC 7807 problem documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from simulator.bodies import compact


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
