"""The error for an answer of Replicate's API other than 2xx.

An answer from something before the API (a proxy, a firewall) says nothing about the request: it is an outage.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jobs.errors import AccountRefused, Blocked, InvalidRequest, NotFound, RateLimited, ReplicateError, Unanswered
from jobs.replicate_api.stated_wait import stated_wait

NOT_PASSED_ON = frozenset({403, 407, 451, 511})
"""Statuses with which an intermediary stops a request. So does a 503 with HTML, as edge servers answer."""

TOO_LARGE = frozenset({413, 414, 431})
"""These concern the request itself, whoever answers."""

VALIDATION = frozenset({400, 422})
"""Their JSON may have any form: an object of fields with what is wrong with each."""


def refusal(status: int, headers: Mapping[str, str], content: bytes) -> ReplicateError:
    """Return the error for an answer other than 2xx; `headers` by any case. 408 and 3xx count as unanswered."""
    body = _object(content)
    detail = _detail_text(body)
    wait = stated_wait(headers, body, "" if body or _is_page(headers, content) else content.decode(errors="replace"))
    if status == 429:
        message, reduced = f"Replicate's rate limit is reached (429){detail}", "reduced" in detail.lower()
        return RateLimited(message, retry_after=wait, reduced=reduced)
    if 300 <= status < 400:
        place = headers.get("location", "another place")
        return Unanswered(f"the API redirects to {place} ({status}): check REPLICATE_BASE_URL", status=status)
    if not _is_own(status, headers, body) and status not in TOO_LARGE:
        return _intermediary_error(status, headers, content, detail, wait)
    if 400 <= status < 500 and status != 408:
        return _final_refusal(status, detail, _fields(body))
    return Unanswered(f"Replicate has trouble of its own ({status}){detail}", status=status, retry_after=wait)


def _is_own(status: int, headers: Mapping[str, str], body: Mapping[str, Any]) -> bool:
    """Whether the API itself answered, with a problem document. Cloudflare writes one too, but marks it."""
    if not body or "cloudflare_error" in body:
        return False
    known = isinstance(body.get("detail"), str) or isinstance(body.get("title"), str)
    return known or status in VALIDATION or "problem+json" in headers.get("content-type", "")


def _is_page(headers: Mapping[str, str], content: bytes) -> bool:
    return "html" in headers.get("content-type", "").lower() or content.lstrip().startswith(b"<")


def _intermediary_error(
    status: int, headers: Mapping[str, str], content: bytes, detail: str, wait: float | None
) -> Blocked | Unanswered:
    marks = [" ".join(headers.get(name, "").split())[:60] for name in ("content-type", "server")]
    shown = ", ".join([str(status), *filter(None, marks)])
    message = f"something else answers in the API's place ({status}){detail}" + (f" [{shown}]" if any(marks) else "")
    stopped = status in NOT_PASSED_ON or (status == 503 and _is_page(headers, content))
    return (Blocked if stopped else Unanswered)(message, status=status, retry_after=wait)


def _final_refusal(status: int, detail: str, fields: list[dict[str, Any]]) -> ReplicateError:
    if status == 401:
        return AccountRefused(f"Replicate does not accept REPLICATE_API_TOKEN (401){detail}", status=status)
    if status == 402:
        return AccountRefused(f"Replicate asks for payment: check the account's billing (402){detail}", status=status)
    if status == 404:
        return NotFound(f"Replicate does not know this (404){detail}", status=status)
    return InvalidRequest(f"Replicate refuses the request ({status}){detail}", status=status, fields=fields)


def _object(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _detail_text(body: Mapping[str, Any]) -> str:
    """`: title: detail` in one line, with what is wrong with each field unless the detail says it."""
    texts = [body.get("title"), body.get("detail"), *(field.get("description") for field in _fields(body))]
    parts: list[str] = []
    for text in texts:
        line = " ".join(text.split()) if isinstance(text, str) else ""
        if line and not any(line in part for part in parts):
            parts.append(line)
    return f": {': '.join(parts)}"[:500] if parts else ""


def _fields(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    fields = body.get("invalid_fields")
    return [field for field in fields if isinstance(field, dict)] if isinstance(fields, list) else []
