from __future__ import annotations

import json
import os

import pytest

from jobs.notify.conditions import trial_event
from jobs.notify.receiver import DELIVERED, Receiver
from jobs.notify.services import send_by_apprise
from tests.http_receiver import HttpReceiver


async def test_apprise_sends_in_a_process_of_its_own() -> None:
    event = trial_event()
    async with HttpReceiver.running("200 OK", "403 Forbidden") as hook:
        chat = Receiver("chat", "apprise", hook.url.replace("http://", "json://") + "/t0k3n", timeout=60.0)
        assert await send_by_apprise(chat, event, {**os.environ}) == DELIVERED
        refused = await send_by_apprise(chat, event, {**os.environ})
    assert json.loads(hook.received[0].body)["title"] == event.subject
    assert json.loads(hook.received[0].body)["message"] == event.text
    assert "403" in refused.why
    assert not refused.final


@pytest.mark.parametrize("address", ["nothing://x", "mailto://me:s3cretword@127.0.0.1:1/?to=me@example.com", "???"])
async def test_an_address_that_apprise_does_not_know_is_not_tried_again(address: str) -> None:
    outcome = await send_by_apprise(Receiver("chat", "apprise", address, timeout=60.0), trial_event(), {**os.environ})
    assert outcome.final
    assert outcome.why
    for part in ("s3cretword", "me:", "p...6"):
        assert part not in outcome.why
