from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.redis_client import embedded, keys
from jobs.redis_client.client import connect
from jobs.redis_client.resilience import Redis
from tests.integration.redis_stats import script_calls
from worker.limits.rate_limiter import RateLimiter

API_HOST = "api.test"
SECOND = 1_000_000


class Waiters:
    """Tasks that each take one start time; `order` is who got one, in order."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self.order: list[int] = []

    def add(self, limiter: RateLimiter, count: int, bucket: str = "create") -> None:
        first = len(self.tasks)
        self.tasks += [asyncio.create_task(self.take(limiter, bucket, n)) for n in range(first, first + count)]

    async def take(self, limiter: RateLimiter, bucket: str, number: int) -> None:
        await limiter.acquire(bucket)
        self.order.append(number)

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def waiters() -> AsyncIterator[Waiters]:
    waiters = Waiters()
    yield waiters
    await waiters.end()


async def turn_clock(redis: Redis, seconds: float) -> None:
    async with redis.pipeline() as pipe:
        for field in ("tat", "hold", "gentle", "reduced", "shared"):
            pipe.hincrby(keys.limit(API_HOST, "create"), field, -int(seconds * SECOND))
        await pipe.execute()


async def looked(redis: Redis, eventually: Callable[..., Any], times: int = 3) -> None:
    """Wait until the limit was asked so often again."""
    before = await script_calls(redis)

    async def often() -> bool:
        return await script_calls(redis) >= before + times

    await eventually(often)


async def test_first_come_first_served(redis: Redis, waiters: Waiters) -> None:
    async with RateLimiter(redis, API_HOST, {"create": 3000}) as limiter:
        waiters.add(limiter, 80)
        await asyncio.gather(*waiters.tasks)
    assert waiters.order == list(range(80))


async def test_canceled_waiters_cost_nothing(redis: Redis, waiters: Waiters, eventually: Callable[..., Any]) -> None:
    seconds, micros = await redis.time()
    async with RateLimiter(redis, API_HOST, {"create": 600}) as limiter:
        waiters.add(limiter, 60)
        await eventually(lambda: len(waiters.order) >= 6)
        for task in waiters.tasks[6:50]:
            task.cancel()
        waiters.add(limiter, 2)
        await asyncio.gather(*waiters.tasks, return_exceptions=True)
    assert waiters.order == sorted(waiters.order)
    assert waiters.order[-12:] == list(range(50, 62))
    async with redis.pipeline() as pipe:
        pipe.hget(keys.limit(API_HOST, "create"), "tat")
        used = int((await pipe.execute())[0]) - seconds * SECOND - micros
    assert used / (60 * SECOND / 591) <= len(waiters.order) + 20, "not one start time for each of 44 canceled"


async def test_nothing_starts_while_paused_and_all_goes_on_after(
    redis: Redis, waiters: Waiters, eventually: Callable[..., Any]
) -> None:
    await redis.set(keys.pause(API_HOST), "402: no credit")
    async with RateLimiter(redis, API_HOST, {"create": 3000, "read": 3000}) as limiter:
        assert limiter.reason("create") is None
        waiters.add(limiter, 10)
        await limiter.acquire("read")
        await looked(redis, eventually)
        assert limiter.reason("create") == "paused: 402: no credit"
        assert waiters.order == []
        await redis.delete(keys.pause(API_HOST))
        await asyncio.gather(*waiters.tasks)
        assert limiter.reason("create") is None


async def test_what_was_reserved_before_a_pause_is_not_given_during_it(
    redis: Redis, waiters: Waiters, eventually: Callable[..., Any]
) -> None:
    async with RateLimiter(redis, API_HOST, {"create": 600}) as limiter:
        waiters.add(limiter, 30)
        await eventually(lambda: len(waiters.order) >= 7)
        await redis.set(keys.pause(API_HOST), "stop")
        given = len(waiters.order)
        await eventually(lambda: limiter.reason("create") == "paused: stop")
        await looked(redis, eventually, 2)
        assert len(waiters.order) <= given + 1, "one may have been on its way"


async def test_a_429_stops_every_process(redis_url: str, waiters: Waiters, eventually: Callable[..., Any]) -> None:
    one, other = connect(redis_url), connect(redis_url)
    async with (
        RateLimiter(one, API_HOST, {"create": 600}) as mine,
        RateLimiter(other, API_HOST, {"create": 600}) as theirs,
    ):
        waiters.add(theirs, 40)
        await eventually(lambda: waiters.order)
        await mine.hold("create", 60)
        await eventually(lambda: "held back" in (theirs.reason("create") or ""))
        given = len(waiters.order)
        await looked(one, eventually, 2)
        assert len(waiters.order) == given
        await turn_clock(one, 61)
        await eventually(lambda: len(waiters.order) >= given + 3)
        await waiters.end()
    await one.aclose()
    await other.aclose()


async def test_one_at_a_time_below_sixty_a_minute(
    redis: Redis, waiters: Waiters, eventually: Callable[..., Any]
) -> None:
    async with RateLimiter(redis, API_HOST, {"create": 30}) as limiter:
        waiters.add(limiter, 3)
        for number in range(1, 4):
            await eventually(lambda number=number: len(waiters.order) == number)
            await turn_clock(redis, 10)
            await looked(redis, eventually, 0 if number == 3 else 2)
            assert len(waiters.order) == number
            await limiter.finish_request("create")
            await turn_clock(redis, 2)


async def test_answers_cost_nothing_at_sixty_a_minute_or_more(redis: Redis) -> None:
    async with RateLimiter(redis, API_HOST, {"create": 600}) as limiter:
        await limiter.acquire("create")
        before = await script_calls(redis)
        await limiter.finish_request("create")
        assert await script_calls(redis) == before


async def test_low_credit_shows_as_the_reason(redis: Redis, waiters: Waiters, eventually: Callable[..., Any]) -> None:
    async with RateLimiter(redis, API_HOST, {"create": 600}) as limiter:
        await limiter.hold("create", 0, "reduced")
        waiters.add(limiter, 2)
        await eventually(lambda: len(waiters.order) == 1)
        assert limiter.reason("create") == "low credit: 6 requests a minute"


async def test_closing_leaves_waiters_to_their_owner(redis: Redis, waiters: Waiters) -> None:
    await redis.set(keys.pause(API_HOST), "stop")
    async with RateLimiter(redis, API_HOST, {"create": 600, "read": 3000}) as limiter:
        waiters.add(limiter, 5)
        await limiter.acquire("read")
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert not names & {"pump create", "pump read"}
    assert not any(task.done() for task in waiters.tasks)


class Server:
    """A private server that may be killed and started again on the same data."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = f"unix://{home / 's'}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = {"port": 0, "unixsocket": self.home / "s", "dir": self.home, "logfile": self.home / "log"}
        options |= {"appendonly": "yes", "appendfsync": "always", "save": ""}
        command = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        self.process = subprocess.Popen([embedded.binary(), *command], start_new_session=True)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def server() -> Iterator[Server]:
    home = Path(tempfile.mkdtemp(prefix="rb-"))  # a socket's path must be short
    server = Server(home)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(home)


@asynccontextmanager
async def limiting(url: str, **limits: float) -> AsyncIterator[RateLimiter]:
    redis = connect(url)
    async with RateLimiter(redis, API_HOST, limits) as limiter:
        yield limiter
    await redis.aclose()


async def test_a_restart_of_redis_only_delays(
    server: Server, waiters: Waiters, eventually: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with limiting(server.url, create=1200) as limiter:
        waiters.add(limiter, 60)
        await eventually(lambda: len(waiters.order) >= 20)
        server.kill()
        holding = asyncio.create_task(limiter.hold("create", 0))
        await asyncio.sleep(1.5)  # longer than this client is patient
        server.start()
        await asyncio.gather(holding, *waiters.tasks)
    assert waiters.order == list(range(60))
    assert "Redis" not in caplog.text  # its absence is told in one place, for the whole process


async def test_a_server_that_refuses_to_write_only_delays(
    redis: Redis, waiters: Waiters, caplog: pytest.LogCaptureFixture, eventually: Callable[..., Any]
) -> None:
    await redis.set(keys.limit(API_HOST, "create"), "of the wrong type")
    async with RateLimiter(redis, API_HOST, {"create": 600}) as limiter:
        waiters.add(limiter, 3)
        await eventually(lambda: "WRONGTYPE" in caplog.text)
        await redis.delete(keys.limit(API_HOST, "create"))
        await asyncio.gather(*waiters.tasks)
