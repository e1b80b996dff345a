from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from jobs.notify.event import Event
from jobs.notify.receiver import DELIVERED, Receiver
from jobs.notify.sender import Sender
from tests.http_receiver import HttpReceiver

KEY = b"0123456789abcdef01234567"
EVENT = Event(
    id="finished:b1:0:3", name="finished", at=1.5, title='night "ü" is finished', lines=["a", "b\u2028"], batch="night",
    data={"total": 3},
)  # fmt: skip


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    async with Sender.opened({}) as opened:
        yield opened


def to(url: str, **facts: Any) -> Receiver:
    return replace(Receiver("ops", "webhook", url, KEY), **facts)


async def test_the_public_library_verifies_what_is_sent(sender: Sender) -> None:
    async with HttpReceiver.running() as hook:
        assert await sender.send(to(hook.url), EVENT) == DELIVERED
    (got,) = hook.received
    payload = Webhook(base64.b64encode(KEY).decode()).verify(got.body, got.headers)
    assert payload == json.loads(got.body) == EVENT.payload()
    assert payload["type"] == "batch.finished"
    assert payload["timestamp"] == "1970-01-01T00:00:01.500Z"
    assert got.headers["webhook-id"] == EVENT.message_id
    assert got.headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Webhook(base64.b64encode(b"x" * 24).decode()).verify(got.body, got.headers)
    assert KEY not in got.body


async def test_without_a_secret_nothing_is_signed(sender: Sender) -> None:
    async with HttpReceiver.running() as hook:
        await sender.send(to(hook.url, secret=b""), EVENT)
    assert "webhook-signature" not in hook.received[0].headers


@pytest.mark.parametrize(
    ("answer", "why", "facts"),
    [
        ("204 No Content", "", {}),
        ("302 Found\r\nLocation: http://127.0.0.1:1/", "redirects are not followed", {}),
        ("404 Not Found\r\n\r\nno such \x1b hook", "HTTP 404: no such � hook", {}),
        ("410 Gone", "wants no more", {"gone": True, "final": True}),
        ("429 Too Many\r\nRetry-After: 120", "HTTP 429", {"retry_after": 120.0}),
        ("503 Busy", "HTTP 503", {"retry_after": None}),
        ("500 Oops\r\n\r\n" + "x" * 100_000, "HTTP 500: " + "x" * 200, {}),
    ],
)
async def test_only_2xx_is_a_receipt(sender: Sender, answer: str, why: str, facts: dict[str, Any]) -> None:
    async with HttpReceiver.running(answer) as hook:
        outcome = await sender.send(to(hook.url), EVENT)
    assert why in outcome.why
    assert outcome.is_delivered == (not why)
    assert len(outcome.why) < 300
    assert {name: getattr(outcome, name) for name in facts} == facts
    assert len(hook.received) == 1


async def test_a_receiver_that_never_answers_is_given_up(sender: Sender) -> None:
    async with HttpReceiver.running(None) as hook:
        outcome = await sender.send(to(hook.url, timeout=0.2), EVENT)
    assert "no answer" in outcome.why
    assert not outcome.final


async def test_nobody_there_is_a_failure_without_the_address(sender: Sender) -> None:
    outcome = await sender.send(to("http://127.0.0.1:1/t0k3n"), EVENT)
    assert "no answer" in outcome.why
    assert "t0k3n" not in outcome.why
