from __future__ import annotations

import asyncio
from typing import Any, Self

import pytest
from redis.commands.core import AsyncScript
from redis.exceptions import ResponseError

from jobs.redis_client.auto_pipeline import MAX_CALLS, AutoPipeline
from jobs.redis_client.resilience import Redis

APPEND = "redis.call('RPUSH', KEYS[1], ARGV[1]); if ARGV[1] == 'bad' then error('no') end; return ARGV[1]"


@pytest.fixture
def append(redis: Redis) -> AsyncScript:
    return redis.register_script(APPEND)


async def listed(redis: Redis) -> list[bytes]:
    return list(await redis.execute_command("LRANGE", "list", 0, -1))


async def control(redis: Redis, *words: Any) -> None:
    await redis.execute_command(*words)


async def test_calls_at_the_same_time_are_each_made_once_and_answered(redis: Redis, append: AsyncScript) -> None:
    await append(["list"], ["first"])
    texts = [str(number) for number in range(2 * MAX_CALLS + 7)]
    answers = await asyncio.gather(*(append(["list"], [text]) for text in texts))
    assert [answer.decode() for answer in answers] == texts
    assert sorted(await listed(redis)) == sorted([b"first", *(text.encode() for text in texts)])


async def test_what_is_called_meanwhile_goes_together(redis: Redis, append: AsyncScript) -> None:
    sent: list[Any] = []

    async def alone(*arguments: Any) -> Any:
        sent.append(arguments)
        return await redis.execute_command(*arguments)

    await append(["list"], ["load"])
    trips = AutoPipeline(alone, lambda: redis.pipeline(transaction=False))
    await asyncio.gather(*(trips.evalsha(append.sha, 1, "list", str(number)) for number in range(20)))
    assert sent == []
    await trips.evalsha(append.sha, 1, "list", "single")
    assert len(sent) == 1


async def test_one_that_fails_fails_alone(append: AsyncScript) -> None:
    await append(["list"], ["load"])
    texts = ["a", "bad", "b"]
    one, bad, other = await asyncio.gather(*(append(["list"], [text]) for text in texts), return_exceptions=True)
    assert (one, other) == (b"a", b"b")
    assert isinstance(bad, ResponseError)


async def test_scripts_that_the_server_forgot_are_loaded_again(redis: Redis, append: AsyncScript) -> None:
    await append(["list"], ["load"])
    await redis.script_flush()
    assert await asyncio.gather(*(append(["list"], [text]) for text in "abc")) == [b"a", b"b", b"c"]


async def test_a_server_that_forgets_between_the_loading_and_the_call_still_gets_it(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It restarted twice: redis-py's script loads itself once."""
    script = redis.register_script(APPEND)
    load = redis.script_load

    async def forget(text: str) -> Any:
        sha = await load(text)
        await redis.script_flush()
        return sha

    monkeypatch.setattr(redis, "script_load", forget)
    assert await asyncio.gather(*(script(["list"], [text]) for text in "abc")) == [b"a", b"b", b"c"]


async def test_a_lost_connection_loses_no_call(redis: Redis, append: AsyncScript) -> None:
    await append(["list"], ["load"])

    async def kill() -> None:
        for _ in range(20):
            await control(redis, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.sleep(0.002)

    async def many() -> list[bytes]:
        answers = []
        for round_ in range(50):
            answers += await asyncio.gather(*(append(["list"], [f"{round_}.{number}"]) for number in range(20)))
        return answers

    answers, _ = await asyncio.gather(many(), kill())
    assert len(set(answers)) == 1000
    assert set(answers) <= set(await listed(redis))


async def test_who_is_cancelled_before_it_is_sent_is_not_sent(redis: Redis, append: AsyncScript) -> None:
    await append(["list"], ["load"])
    first = asyncio.create_task(append(["list"], ["first"]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    late = asyncio.create_task(append(["list"], ["late"]))
    last = asyncio.create_task(append(["list"], ["last"]))
    await asyncio.sleep(0)
    late.cancel()
    assert list(await asyncio.gather(first, last)) == [b"first", b"last"]
    assert await listed(redis) == [b"load", b"first", b"last"]
    assert late.cancelled()


async def test_closing_ends_what_is_under_way(redis: Redis, append: AsyncScript) -> None:
    await append(["list"], ["load"])
    await control(redis, "CLIENT", "PAUSE", 60_000, "WRITE")
    try:
        waiting = asyncio.create_task(append(["list"], ["never"]))
        await asyncio.sleep(0.05)
        await redis.aclose()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    finally:
        await control(redis, "CLIENT", "UNPAUSE")


async def test_a_connection_that_goes_silent_holds_nobody_up_for_long(redis: Redis, append: AsyncScript) -> None:
    silent = asyncio.Event()

    class Silent:
        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        def execute_command(self, *_: object) -> None:
            pass

        async def execute(self, **_: object) -> None:
            silent.set()
            await asyncio.Event().wait()

    await append(["list"], ["load"])
    trips = AutoPipeline(redis.execute_command, Silent, 0.1)  # type: ignore[arg-type]  # nobody answers
    asked = [asyncio.create_task(trips.evalsha(append.sha, 1, "list", text)) for text in "abc"]
    await silent.wait()
    later = asyncio.create_task(trips.evalsha(append.sha, 1, "list", "d"))
    assert list(await asyncio.gather(*asked, later)) == [b"a", b"b", b"c", b"d"]


async def test_what_cannot_be_encoded_fails_alone(redis: Redis, append: AsyncScript) -> None:
    await append(["list"], ["load"])
    texts = ["a", "\ud800", "b"]
    one, bad, other = await asyncio.gather(*(append(["list"], [text]) for text in texts), return_exceptions=True)
    assert (one, other) == (b"a", b"b")
    assert isinstance(bad, UnicodeEncodeError)
    assert sorted(await listed(redis)) == [b"a", b"b", b"load"]
