"""Notifications with real workers: before a command ends, after a worker's death, and past a receiver that fails."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from jobs.config import Config
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from tests.conftest import Nursery
from tests.http_receiver import HttpReceiver
from tests.json_outputs import is_as_described

KEY = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
ROW = {"id": "a", "model": "simulator/image", "prompt": "a lamp", "width": 16, "height": 16}
BROKEN = {"id": "b", "model": "simulator/flaky", "prompt": "x", "error": "model"}


def write(config: Config, *receivers: str) -> None:
    config.notify.write_text("".join(f"[[receiver]]\n{receiver}\n" for receiver in receivers))


def prompts(directory: Path, *rows: dict[str, Any]) -> str:
    (directory / "night.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "night.jsonl"


async def test_run_delivers_its_end_before_it_ends(
    config: Config, nursery: Nursery, child_env: dict[str, str], tmp_path: Path, redis: Redis, night: Any
) -> None:
    async with HttpReceiver.running("503 Busy") as hook:
        write(
            config,
            f'name = "ops"\nwebhook = "{hook.url}?token=t0k3n"\nsecret_env = "HOOK_KEY"\nevents = ["finished"]',
            "name = \"script\"\nshell = true\ncommand = 'env > seen; cat > facts; echo said'",
            'name = "dead"\nwebhook = "http://127.0.0.1:1/"',
            'name = "wrong"\nevent = "all"\ncommand = "true"',
        )
        env = {**child_env, "HOOK_KEY": KEY}
        command = ("-m", "jobs", "run", prompts(tmp_path, ROW, BROKEN), "--no-model-check")
        with night.commands_to_redis() as sent:
            done = await asyncio.to_thread(nursery.run, *command, env=env)
    assert done.code == 1, done.err
    assert re.search(
        r"Warning: .*notify.toml: 1 error\n  line \d+: unknown key 'event'; did you mean events\?", done.out
    )
    first, second = hook.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    payload = Webhook(KEY).verify(second.body, second.headers)
    data = payload["data"]
    assert (payload["type"], data["batch"], data["succeeded"], data["failed"]) == ("batch.finished", "night", 1, 1)
    assert [reason["kind"] for reason in data["reasons"]] == ["model_error"]
    assert json.loads((tmp_path / "facts").read_text()) == payload
    seen = dict(line.partition("=")[::2] for line in (tmp_path / "seen").read_text().splitlines() if "=" in line)
    assert (seen["BATCH_NAME"], seen["BATCH_EVENT"], seen["BATCH_EVENT_FAILED"]) == ("night", "finished", "1")
    assert not seen.keys() & {"REPLICATE_API_TOKEN", "HOOK_KEY"}
    assert "script: said" in done.err
    assert "finished:" in "".join(sent)
    for secret in ("t0k3n", KEY, KEY.removeprefix("whsec_")):
        assert secret not in done.err + done.out
        assert secret not in "".join(sent)
    deliveries = await redis.zrange(keys.deliveries(config.api_host), 0, -1)
    assert [delivery.decode().partition("/")[0] for delivery in deliveries] == ["dead"]


async def test_what_a_killed_worker_did_not_deliver_the_next_one_does(
    config: Config, worker_process: Callable[..., Any], cli: Callable[..., Any], tmp_path: Path, redis: Redis,
    eventually: Callable[..., Any],
) -> None:  # fmt: skip
    async with HttpReceiver.running(None) as hook:
        write(config, f'name = "ops"\nwebhook = "{hook.url}"')
        cli("enqueue", prompts(tmp_path, ROW), "--no-model-check")
        worker = worker_process()
        await eventually(lambda: hook.received)
        worker.process.send_signal(signal.SIGKILL)
        worker.wait()
        (delivery,) = await redis.zrange(keys.deliveries(config.api_host), 0, -1)
        await redis.zadd(keys.deliveries(config.api_host), {delivery: time.time()})  # its claim has expired
        worker_process()
        await eventually(lambda: len(hook.received) == 2)
    first, second = hook.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


async def test_a_receiver_that_hangs_delays_neither_a_batch_nor_a_stop(
    config: Config, worker_process: Callable[..., Any], cli: Callable[..., Any], tmp_path: Path,
    eventually: Callable[..., Any],
) -> None:  # fmt: skip
    async with HttpReceiver.running(None, None) as hook:
        write(config, f'name = "slow"\nwebhook = "{hook.url}"\ntimeout = 120')
        cli("enqueue", prompts(tmp_path, ROW), "--no-model-check")
        worker = worker_process()
        await eventually(lambda: hook.received)
        rest = [{**ROW, "id": "c"}]
        (tmp_path / "more.jsonl").write_text(json.dumps(rest[0]) + "\n")
        cli("enqueue", "more.jsonl", "--no-model-check")
        await eventually(lambda: re.search(r"● more is finished", worker.log()))
        worker.terminate()
        assert worker.wait() == 0, worker.log()
        assert len(hook.received) == 1


def test_each_receiver_is_tested_and_listed(config: Config, cli: Callable[..., Any]) -> None:
    config.notify.write_text(
        'on_finish = "true"\n'
        '[[receiver]]\nname = "dead"\nwebhook = "http://127.0.0.1:1/t0k3n"\n'
        '[[receiver]]\nname = "wrong"\nwebhook_env = "NOT_SET"\n'
    )
    done = cli("notify", "test")
    assert done.code == 1
    on_finish, dead = done.out.splitlines()
    assert re.fullmatch(r"on_finish +delivered", on_finish)
    assert re.match(r"dead +no answer", dead)
    assert "line 7: webhook_env: the environment has no such variable" in done.err
    assert "t0k3n" not in done.out + done.err
    one = cli("notify", "test", "on_finish", "--json")
    assert (one.code, json.loads(one.out)[0]["delivered"]) == (0, True)
    assert is_as_described("notify-test", one.out)
    unknown = cli("notify", "test", "nobody")
    assert (unknown.code, "line 7" in unknown.err) == (2, True)
    listed = cli("notify", "--json")
    assert listed.code == 2
    facts = json.loads(listed.out)
    assert [one["name"] for one in facts["receivers"]] == ["on_finish", "dead"]
    shown = cli("notify")
    assert "on_finish" in shown.out
    assert "line 7" in shown.out


@pytest.mark.parametrize("text", ["", 'on_finish = "true"\n'])
def test_a_list_without_redis(config: Config, cli: Callable[..., Any], text: str) -> None:
    config.notify.write_text(text)
    done = cli("notify")
    assert done.code == 0
    assert ("on_finish" in done.out) == bool(text)
    assert ("There is no receiver" in done.out) == (not text)
