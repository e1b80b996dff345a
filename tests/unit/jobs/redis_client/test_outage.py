from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest
from redis import exceptions

from jobs.errors import UnfitRedis
from jobs.redis_client.outage import OutageTracker, ShutdownDeadline, is_news, is_passing, reason
from jobs.redis_client.requirements import check_info

IN_A_SCRIPT = "ERR Error running script (call to f_1): @user_script:7: @user_script: 7: -{} it is so"
IN_A_PIPELINE = "Command # 1 (SET key 'OOM in a prompt') of pipeline caused error: ('{} it is so',)"
CODES = ["OOM", "MISCONF", "READONLY", "TRYAGAIN", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "BUSY"]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("form", ["{} it is so", IN_A_SCRIPT, IN_A_PIPELINE, "Transaction discarded because of: {} is"])
def test_what_passes_by_itself_is_known_in_every_form(code: str, form: str) -> None:
    assert is_passing(exceptions.ResponseError(form.format(code)))


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (exceptions.ConnectionError("gone"), True),
        (exceptions.TimeoutError("silent"), True),
        (exceptions.BusyLoadingError("loading"), True),
        (exceptions.OutOfMemoryError("full"), True),
        (exceptions.ReadOnlyError("a replica"), True),
        (ConnectionRefusedError(), True),
        (exceptions.AuthenticationError("wrong password"), False),
        (exceptions.NoPermissionError("not you"), False),
        (exceptions.ResponseError("WRONGTYPE Operation against a key"), False),
        (exceptions.ResponseError(IN_A_PIPELINE.format("WRONGTYPE")), False),
        (exceptions.ResponseError("BUSYGROUP Consumer Group name already exists"), False),
        (exceptions.WatchError("changed"), False),
        (ValueError("OOM of another kind"), False),
    ],
)
def test_what_passes_by_itself(error: Exception, *, passes: bool) -> None:
    assert is_passing(error) is passes


def test_a_reason_is_one_line_without_the_command() -> None:
    assert reason(exceptions.ResponseError(IN_A_PIPELINE.format("OOM"))) == "OOM it is so"
    assert reason(exceptions.ResponseError("full. script: 1, on @user_script:7.\nmore")) == "full."


def test_a_loss_and_its_end_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    redis = OutageTracker(quiet=-1.0)
    for _ in range(3):
        redis.record_failure(exceptions.ConnectionError("gone"), time.monotonic() - 5)
    redis.record_answer(repeated=False)
    redis.record_answer(repeated=True)
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "! Redis does not answer, waiting",
        "Redis answers again, after 5.0 s",
    ]


def test_a_connection_that_is_made_again_soon_is_no_matter(caplog: pytest.LogCaptureFixture) -> None:
    redis = OutageTracker()
    redis.record_failure(exceptions.ConnectionError("cut"), time.monotonic())
    redis.record_answer(repeated=True)
    assert not caplog.messages


def test_reads_do_not_end_a_refusal_to_write(caplog: pytest.LogCaptureFixture) -> None:
    redis = OutageTracker(quiet=-1.0)
    redis.waiting = 2
    redis.record_failure(exceptions.OutOfMemoryError("full"), time.monotonic())
    redis.record_answer(repeated=False)  # a read
    redis.record_answer(repeated=True)  # another one still waits
    assert len(caplog.messages) == 1
    redis.waiting = 0  # they were cancelled
    redis.record_answer(repeated=False)
    assert len(caplog.messages) == 1
    redis.waiting = 1
    redis.record_answer(repeated=True)
    assert "answers again" in caplog.messages[-1]


async def test_at_the_end_nobody_waits_long_and_after_one_in_vain_nobody_tries() -> None:
    farewell = ShutdownDeadline(0.05)

    async def call() -> None:
        async with farewell.limit_call():
            await asyncio.Event().wait()

    waiting = asyncio.create_task(call())
    await asyncio.sleep(0)
    farewell.begin()
    for attempt in (waiting, call()):
        with pytest.raises(exceptions.ConnectionError):
            await attempt
    assert farewell.failed


async def test_an_answer_in_time_is_taken_at_the_end_too() -> None:
    farewell = ShutdownDeadline()
    farewell.begin()
    async with farewell.limit_call():
        await asyncio.sleep(0)
    assert not farewell.failed


@pytest.mark.parametrize(
    ("error", "news"),
    [
        (exceptions.ConnectionError("gone"), False),
        (ExceptionGroup("two", [exceptions.ConnectionError("gone"), exceptions.TimeoutError("silent")]), False),
        (ExceptionGroup("two", [exceptions.ConnectionError("gone"), ValueError("ours")]), True),
        (exceptions.ResponseError("WRONGTYPE"), True),
        (OSError("a full disk"), True),
        (None, True),
    ],
)
def test_errors_that_only_say_that_redis_is_away_are_no_news(error: Any, *, news: bool) -> None:
    raised = (type(error), error, None) if error else None
    assert is_news(logging.LogRecord("worker", logging.ERROR, "", 0, "it failed", (), raised)) is news
    assert is_news(logging.LogRecord("worker", logging.ERROR, "", 0, "it failed: %s", (error,), None)) is news


@pytest.mark.parametrize("version", ["7.2.4", "5.0.14", "9.1.0", ""])
def test_a_server_that_is_new_enough_and_evicts_nothing_is_fit(version: str, caplog: pytest.LogCaptureFixture) -> None:
    check_info({"redis_version": version, "maxmemory_policy": "noeviction"})
    assert not caplog.messages


def test_an_old_server_is_refused_by_its_version() -> None:
    with pytest.raises(UnfitRedis, match=r"too old: 4\.0\.9\. Use Redis 5\.0 or newer") as error:
        check_info({"redis_version": "4.0.9", "maxmemory_policy": "noeviction"})
    assert error.value.exit_code == 2
