from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.fork_server import start_python

of_python_itself = pytest.mark.parametrize("launch", [start_python], ids=["python"])
"""Others are forked: they read their settings and say what is wrong as those do that Python starts."""


def refused(worker: Any, code: int) -> str:
    assert worker.wait() == code
    log: str = worker.log()
    assert "Traceback" not in log
    return log


@of_python_itself
def test_a_missing_token_is_said(worker_process: Callable[..., Any]) -> None:
    assert "REPLICATE_API_TOKEN is not set" in refused(worker_process(replicate_api_token=None), 2)


def test_a_wrong_token_is_said_and_nothing_spent(worker_process: Callable[..., Any], simulator: Any) -> None:
    simulator.settings(token="another")
    log = refused(worker_process(), 2)
    assert "REPLICATE_API_TOKEN" in log
    assert "401" in log
    assert simulator.ledger()["created"] == 0


def test_no_server_at_redis_url_is_said(worker_process: Callable[..., Any]) -> None:
    log = refused(worker_process(redis_url="redis://:secret@127.0.0.1:1/0"), 3)
    assert "127.0.0.1:1" in log
    assert "secret" not in log


def test_a_wrong_setting_is_said(worker_process: Callable[..., Any]) -> None:
    assert "BATCH_MAX_IN_FLIGHT" in refused(worker_process(max_in_flight=0), 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[schedule]]\nname = "nightly"\ncron = "0 0 2 * * *"\nfile = "prompts.jsonl"\n', "line 3: cron:"),
        ('[[schedule]]\nname = "nightly"\ncron = "0 2 * * *"\nfile = "prompts.jsonl"\n', "there is no file"),
        ("nonsense", "line 1: "),
    ],
)
async def test_a_worker_works_whatever_is_wrong_with_schedules(
    worker_process: Callable[..., Any], config: Any, eventually: Callable[..., Any], text: str, said: str
) -> None:
    config.schedules.write_text(text)
    worker = worker_process()
    await eventually(lambda: said in worker.log() and "shards waiting" in worker.log())
    assert worker.process.poll() is None


def test_an_api_that_is_away_is_waited_for(worker_process: Callable[..., Any], simulator: Any) -> None:
    simulator.control(error={"rate": 1.0, "kinds": ["account"]})
    worker = worker_process("--burst")
    assert worker.wait() == 0
    assert "does not answer yet" in worker.log()


@pytest.mark.parametrize("check", [True, False])
async def test_the_health_check_tells_whether_a_worker_is_up(
    worker_process: Callable[..., Any],
    eventually: Callable[..., Any],
    check: bool,  # noqa: FBT001
) -> None:
    if check:
        worker = worker_process()
        await eventually(lambda: "shards waiting" in worker.log())
        await eventually(lambda: worker_process("--check").wait() == 0)
    else:
        assert worker_process("--check").wait() == 1


@of_python_itself
async def test_the_first_lines_name_account_limits_and_shards(
    worker_process: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    worker = worker_process()
    await eventually(lambda: "shards waiting" in worker.log())
    log = worker.log()
    assert "account simulator" in log
    assert "600 creates and 3000 reads a minute" in log
    assert "shards waiting: 0" in log


@of_python_itself
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_stop_is_said_in_a_line_with_date_level_and_process(
    worker_process: Callable[..., Any], eventually: Callable[..., Any], number: signal.Signals
) -> None:
    worker = worker_process()
    await eventually(lambda: "shards waiting" in worker.log())
    worker.process.send_signal(number)
    assert worker.wait(20) == 0
    head = rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{{4}} INFO {re.escape(socket.gethostname())}/{worker.process.pid}: "
    lines = worker.log().splitlines()
    assert all(re.match(head, line) for line in lines), lines
    assert f"stopping on {number.name}: waiting for 0 creates that are under way" in lines[-1]


async def test_a_worker_that_ignores_hangups_goes_on(
    nursery: Any, child_env: dict[str, str], eventually: Callable[..., Any]
) -> None:
    worker = nursery.start("-m", "arq", "worker.Settings", env=child_env, within=("nohup",))
    await eventually(lambda: "shards waiting" in worker.log())
    worker.process.send_signal(signal.SIGHUP)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert "SIGHUP" not in worker.log()


async def test_a_stop_while_the_api_does_not_answer_is_heeded(
    worker_process: Callable[..., Any], eventually: Callable[..., Any], simulator: Any
) -> None:
    simulator.control(hang={"rate": 1.0, "kinds": ["account"], "seconds": 60})
    worker = worker_process()
    await eventually(lambda: simulator.ledger(summary=True)["faults"].get("hang"))
    worker.terminate()
    assert worker.wait(20) == 0
    assert "Traceback" not in worker.log()


def test_a_log_in_json_is_json_to_its_last_line(worker_process: Callable[..., Any]) -> None:
    log = refused(worker_process(redis_url="redis://127.0.0.1:1/0", log_format="json"), 3)
    (line,) = map(json.loads, log.splitlines())
    assert (line["level"], line["event"]) == ("critical", "process_ended")
    assert "127.0.0.1:1" in line["message"]


def test_a_worker_tells_where_its_metrics_are(worker_process: Callable[..., Any]) -> None:
    worker = worker_process("--burst", metrics_port=0, log_format="json")
    assert worker.wait() == 0
    lines = [json.loads(line) for line in worker.log().splitlines()]
    assert next(line["message"] for line in lines if line["event"] == "metrics_served").startswith("metrics: http://")
