"""Webhooks, signed as Standard Webhooks: https://www.standardwebhooks.com."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from contextlib import aclosing

import httpx

from jobs.notify.event import Event
from jobs.notify.receiver import DELIVERED, Outcome, Receiver
from jobs.replicate_api.client import BROKEN, CONNECT_SECONDS, reason_of
from jobs.replicate_api.stated_wait import stated_wait
from jobs.replicate_api.transport import send
from jobs.text import printable

MOST_READ = 4096
"""Bytes of an answer that are read, so that an error can be quoted."""

QUOTED = 200


async def post_webhook(client: httpx.AsyncClient, receiver: Receiver, event: Event) -> Outcome:
    """POST an event once, and follow no redirect; the caller limits the time."""
    body = json.dumps(event.payload(), ensure_ascii=False).encode("utf-8", "replace")
    headers = signed_headers(receiver.secret, event.message_id, int(time.time()), body)
    limit = httpx.Timeout(receiver.timeout, connect=min(receiver.timeout, CONNECT_SECONDS), pool=receiver.timeout)
    try:
        request = client.build_request("POST", receiver.target, content=body, headers=headers, timeout=limit)
        async with aclosing(await send(client, request)) as response:
            return outcome_of(response.status_code, response.headers, await _read_some(response))
    except BROKEN as error:
        return Outcome(f"no answer ({reason_of(error)})")


def signed_headers(secret: bytes, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a message; without a secret it has no signature."""
    headers = {"Content-Type": "application/json", "webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    if secret:
        signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
        digest = hmac.new(secret, signed, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def outcome_of(status: int, headers: httpx.Headers, body: bytes = b"") -> Outcome:
    """What an answer means: only 2xx is a receipt."""
    if 200 <= status < 300:
        return DELIVERED
    if status == 410:
        return Outcome("HTTP 410: it wants no more messages", final=True, gone=True)
    if 300 <= status < 400:
        return Outcome(f"HTTP {status}: redirects are not followed; write the address that it leads to")
    said = " ".join(printable(body.decode("utf-8", "replace")).split())[:QUOTED]
    return Outcome(f"HTTP {status}{f': {said}' if said else ''}", retry_after=stated_wait(headers, {}))


async def _read_some(response: httpx.Response) -> bytes:
    found = b""
    async with aclosing(response.aiter_raw()) as pieces:  # type: ignore[type-var]  # an asynchronous generator
        async for piece in pieces:
            found += piece
            if len(found) >= MOST_READ:
                break
    return found[:MOST_READ]
