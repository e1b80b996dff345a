from __future__ import annotations

import pytest

from jobs.config import Config
from jobs.errors import NotifyError
from jobs.notify.file import ReceiversFile, load
from jobs.notify.overview import chosen, read_notifications, send_trials
from jobs.notify.sender import Sender
from jobs.redis_client.resilience import Redis
from jobs.state.outbox import Outbox
from tests.http_receiver import HttpReceiver


def write(config: Config, text: str) -> ReceiversFile:
    config.notify.write_text(text)
    return load(config.notify, {})


@pytest.mark.parametrize(
    ("text", "name", "error"),
    [
        ("", None, "there is no receiver in"),
        ("x = 1\n", None, "unknown key 'x'"),
        ('on_finish = "true"\n', "ops", "has no receiver 'ops'; there are: on_finish"),
        ('[[receiver]]\nname = "ops"\n', "ops", "the receiver needs one of"),
        ('[[receiver]]\nname = "ops"\n', None, "the receiver needs one of"),
    ],
)
def test_what_cannot_be_tested_is_an_error(config: Config, text: str, name: str | None, error: str) -> None:
    with pytest.raises(NotifyError, match=error):
        chosen(write(config, text), name)


async def test_a_list_shows_who_refuses_and_what_waits(config: Config, redis: Redis) -> None:
    file = write(config, 'on_finish = "true"\n[[receiver]]\nname = "ops"\nwebhook = "https://example.com"\n')
    outbox = Outbox(redis, config.api_host)
    await outbox.silence("ops", file.receivers[1].mark)
    await outbox.post("1", '{"id": "1"}', ["ops", "on_finish", "other"])
    found = await read_notifications(file, outbox)
    assert [(one.name, one.refuses, one.waiting) for one in found.receivers] == [
        ("on_finish", False, 1),
        ("ops", True, 1),
    ]
    assert "example.com" not in found.model_dump_json()


async def test_each_receiver_gets_the_test_message(config: Config) -> None:
    async with HttpReceiver.running("500 Oops") as hook, Sender.opened({"PATH": "/usr/bin:/bin"}) as sender:
        file = write(config, f'on_finish = "true"\n[[receiver]]\nname = "ops"\nwebhook = "{hook.url}"\n')
        found = await send_trials(file, chosen(file, None), sender)
        (again,) = await send_trials(file, chosen(file, "ops"), sender)
    assert [(one.receiver, one.delivered, one.error) for one in found] == [
        ("on_finish", True, None),
        ("ops", False, "HTTP 500"),
    ]
    assert again.delivered
