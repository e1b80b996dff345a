"""An answer of Replicate's API other than 2xx, as an error: which one, and what it says."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from jobs.errors import AccountRefused, InvalidRequest, NotFound, RateLimited, ReplicateError, Unanswered

LONGEST_WAIT = 3600.0
"""Seconds; a longer Retry-After would outlive every output, so it is not believed."""

DEFAULT_WAIT = 1.0
"""Seconds; `ratelimit-reset` was never seen to say anything else."""

_RESETS_IN = re.compile(r"resets in ~?(\d+(?:\.\d+)?)\s*s", re.IGNORECASE)


def refusal(status: int, headers: Mapping[str, str], content: bytes) -> ReplicateError:
    """Return the error for an answer other than 2xx; `headers` by any case. 408 and 3xx count as unanswered."""
    body = _object(content)
    said = _said(body)
    if status == 429:
        message, reduced = f"Replicate's rate limit is reached (429){said}", "reduced" in said.lower()
        return RateLimited(message, retry_after=_retry_after(headers, body), reduced=reduced)
    if 400 <= status < 500 and status != 408:
        return _final_refusal(status, said, _fields(body))
    if 300 <= status < 400:
        place = headers.get("location", "another place")
        return Unanswered(f"the API sends us on to {place} ({status}): check REPLICATE_BASE_URL", status=status)
    return Unanswered(f"Replicate has trouble of its own ({status}){said}", status=status)


def _final_refusal(status: int, said: str, fields: list[dict[str, Any]]) -> ReplicateError:
    if status == 401:
        return AccountRefused(f"Replicate does not accept REPLICATE_API_TOKEN (401){said}", status=status)
    if status == 402:
        return AccountRefused(f"Replicate wants the account's billing mended (402){said}", status=status)
    if status == 404:
        return NotFound(f"Replicate does not know this (404){said}", status=status)
    return InvalidRequest(f"Replicate refuses the request ({status}){said}", status=status, fields=fields)


def _object(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _said(body: Mapping[str, Any]) -> str:
    """`: title: detail` in one line, with what is wrong with each field when the detail does not say it."""
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


def _retry_after(headers: Mapping[str, str], body: Mapping[str, Any]) -> float:
    """The longest wait of those given in header, body field and text, in seconds."""
    waits = [wait for wait in _waits(headers, body) if math.isfinite(wait) and wait >= 0]
    return min(max(waits, default=DEFAULT_WAIT), LONGEST_WAIT)


def _waits(headers: Mapping[str, str], body: Mapping[str, Any]) -> Iterator[float]:
    for given in (headers.get("retry-after"), body.get("retry_after")):
        try:
            yield float(given)  # type: ignore[arg-type] # whatever it is, it is tried
        except (TypeError, ValueError):
            if isinstance(given, str):
                yield from _until(given, headers.get("date"))
    for text in (body.get("detail"), body.get("title")):
        if isinstance(text, str) and (match := _RESETS_IN.search(text)):
            yield float(match[1])


def _until(date: str, now: str | None) -> Iterator[float]:
    """Seconds until an HTTP date, by the API's own clock when it tells it."""
    try:
        present = parsedate_to_datetime(now).timestamp() if now else time.time()
        yield max(0.0, parsedate_to_datetime(date).timestamp() - present)
    except (TypeError, ValueError, OverflowError):
        return
