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
