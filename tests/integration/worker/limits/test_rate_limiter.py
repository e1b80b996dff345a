from __future__ import annotations

from itertools import pairwise

import pytest

from jobs.account.rate_limit import RateLimit, Reservation
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from worker.limits.rate_limiter import RateLimiter

API_HOST = "api.test"
SECOND, MINUTE = 1_000_000, 60_000_000


def bucket(redis: Redis, limit: float, name: str = "create") -> RateLimit:
    """Each call stands for another process."""
    return RateLimit(redis, API_HOST, name, limit)


async def turn_clock(
    redis: Redis, seconds: float, fields: tuple[str, ...] = ("tat", "hold", "gentle", "reduced", "shared")
) -> None:
    """Let the limit believe that so much time has passed."""
    async with redis.pipeline() as pipe:
        for field in fields:
            pipe.hincrby(keys.limit(API_HOST, "create"), field, -int(seconds * SECOND))
        await pipe.execute()


async def many(limit: RateLimit, count: int) -> list[int]:
    times: list[int] = []
    while len(times) < count:
        got = (await limit.reserve(count - len(times))).times
        assert got
        times += got
    return times


def most_in(times: list[int], window: float) -> int:
    start, most = 0, 0
    for end, time in enumerate(times):
        while times[start] <= time - window:
            start += 1
        most = max(most, end - start + 1)
    return most


@pytest.mark.parametrize("limit", [60, 61, 75, 99.5, 100, 250, 600, 1000, 3000])
async def test_no_minute_sees_more_than_the_limit_even_if_starts_are_late_by_half_a_second(
    redis: Redis, limit: float
) -> None:
    times = await many(bucket(redis, limit), int(limit * 2.5))
    assert most_in(times, MINUTE + SECOND / 2) <= limit
    assert most_in(times[-int(limit * 1.5) :], MINUTE) >= int(limit * 0.97), "and the limit is used"


@pytest.mark.parametrize(("limit", "burst", "horizon"), [(60, 1, 1), (399, 1, 3), (600, 3, 4), (3000, 15, 24)])
async def test_after_idleness_half_a_percent_may_start_at_once_and_then_it_keeps_the_pace(
    redis: Redis, limit: float, burst: int, horizon: int
) -> None:
    mine = bucket(redis, limit)
    first = await mine.reserve(1000)
    assert (first.wait, first.why, first.leased, first.horizon) == (0, "", False, horizon)
    assert len(first.times) == horizon
    times = list(first.times) + await many(mine, 4 * burst)
    assert sum(time <= first.now for time in times[:burst]) >= min(burst, horizon)
    interval = MINUTE / limit / 0.985
    steps = [later - earlier for earlier, later in pairwise(times[-2 * burst - 1 :])]
    assert all(interval * 0.999 <= step <= interval * 1.01 for step in steps)


async def test_processes_get_start_times_from_one_sequence(redis: Redis) -> None:
    one, other = bucket(redis, 600), bucket(redis, 600)
    await many(one, 12)
    times = [time for _ in range(5) for limit in (one, other) for time in (await limit.reserve(2)).times]
    assert all(0.99 <= (later - earlier) / (MINUTE / 591) <= 1.01 for earlier, later in pairwise(times))


async def test_asking_reserves_nothing_and_writes_nothing(redis: Redis) -> None:
    assert (await bucket(redis, 600).reserve(0)).times == ()
    assert await redis.exists(keys.limit(API_HOST, "create")) == 0


async def test_an_idle_limit_leaves_nothing_behind(redis: Redis) -> None:
    mine = bucket(redis, 600)
    await mine.reserve(3)
    assert 50_000 < await redis.pttl(keys.limit(API_HOST, "create")) < 70_000
    await mine.hold(120, "throttled")
    assert 600_000 < await redis.pttl(keys.limit(API_HOST, "create")) < 700_000


async def test_buckets_and_realms_are_apart(redis: Redis) -> None:
    await bucket(redis, 600).hold(60, "reduced")
    elsewhere = RateLimit(redis, "other.test", "create", 600)
    for limit in (bucket(redis, 600, "read"), elsewhere):
        assert (await limit.reserve(1)).why == ""


async def test_a_hold_stops_every_process_and_voids_what_is_reserved(redis: Redis) -> None:
    one, other = bucket(redis, 600), bucket(redis, 600)
    before = await other.reserve(3)
    await one.hold(30, "throttled")
    held = await other.reserve(3)
    assert (held.times, held.why, held.text, held.wait) == ((), "held", "30", SECOND)
    assert held.epoch == before.epoch + 1
    await turn_clock(redis, 29.5)
    assert 0 < (await other.reserve(3)).wait <= SECOND / 2
    await one.hold(1, "throttled")
    assert (await other.reserve(3)).wait > SECOND / 2, "the later end counts"
    await turn_clock(redis, 1.1)
    assert (await other.reserve(1)).times


async def test_a_shorter_hold_does_not_end_a_longer_one(redis: Redis) -> None:
    mine = bucket(redis, 600)
    await mine.hold(30, "throttled")
    await mine.hold(1, "throttled")
    assert (await mine.reserve(1)).text == "30"


async def test_after_a_hold_there_is_no_burst_for_ten_minutes(redis: Redis) -> None:
    mine = bucket(redis, 600)
    await mine.hold(30, "throttled")
    await turn_clock(redis, 120)
    first = await mine.reserve(3)
    assert [time <= first.now for time in first.times] == [True, False, False]
    await turn_clock(redis, 541)
    again = await mine.reserve(3)
    assert all(time <= again.now for time in again.times)


async def pace_of(limit: RateLimit) -> float:
    """Start times a minute, on from the present one."""
    times = await many(limit, 6)
    return MINUTE * 3 / (times[-1] - times[-4])


async def test_a_429_takes_a_fifth_of_the_pace_and_ten_minutes_give_back_all(redis: Redis) -> None:
    mine, other = bucket(redis, 600), bucket(redis, 600)
    for _ in range(5):  # they were under way together
        await mine.hold(30, "throttled")
    await turn_clock(redis, 30.1)
    assert await pace_of(other) == pytest.approx(591 * 0.85, rel=0.01)
    await turn_clock(redis, 60)
    assert await pace_of(other) == pytest.approx(591 * 0.95, rel=0.01)
    await turn_clock(redis, 60)
    assert await pace_of(mine) == pytest.approx(591, rel=0.001)
    for _ in range(20):
        await mine.hold(0, "throttled")
    assert await pace_of(mine) == pytest.approx(591 * 0.2, rel=0.01), "and never all of it"


async def test_answers_that_leave_less_than_we_would_slow_down_and_others_cost_nothing(redis: Redis) -> None:
    mine = bucket(redis, 600)
    await RateLimiter(redis, API_HOST, {"create": 600}).heed_remaining("create", None)
    for left in (599, 300, 6, 5):
        await mine.heed_remaining(left)
    assert await redis.exists(keys.limit(API_HOST, "create")) == 0
    start = (await many(mine, 10))[-1]
    await mine.heed_remaining(2)
    assert (await mine.reserve(1)).times[0] - start == pytest.approx(2 * MINUTE / 591, rel=0.01)
    start += int(2 * MINUTE / 591)
    await mine.heed_remaining(0)
    assert (await mine.reserve(1)).times[0] - start == pytest.approx(6 * MINUTE / 591, rel=0.01)


async def test_a_bucket_that_holds_few_is_not_taken_for_one_that_is_used_up(redis: Redis) -> None:
    limiter = RateLimiter(redis, API_HOST, {"create": 600})
    for _ in range(10):
        await limiter.heed_remaining("create", 2)
    assert await redis.exists(keys.limit(API_HOST, "create")) == 0


async def test_holds_are_bounded(redis: Redis) -> None:
    limiter = RateLimiter(redis, API_HOST, {"create": 600})
    await limiter.hold("create", 1e12)
    assert (await bucket(redis, 600).reserve(1)).text == "3600"
    await turn_clock(redis, 3601)
    await limiter.hold("create", -5)
    assert (await bucket(redis, 600).reserve(1)).wait == 0


async def test_low_credit_means_six_a_minute_for_five_minutes_and_for_all(redis: Redis) -> None:
    one, other = bucket(redis, 600), bucket(redis, 600)
    await one.hold(5, "reduced")
    await turn_clock(redis, 6)
    leased = await other.reserve(10)
    assert (len(leased.times), leased.leased, leased.why, leased.text) == (1, True, "reduced", "6")
    await other.finish_request()
    assert (await one.reserve(10)).times == ()
    await turn_clock(redis, 10)
    assert len((await one.reserve(10)).times) == 1
    await turn_clock(redis, 284)
    full = await other.reserve(3)
    assert (full.leased, full.why) == (False, "")
    assert [time <= full.now for time in full.times] == [True, False, False], "without a burst, whoever had the lease"
    await other.hold(5, "reduced")
    await turn_clock(redis, 6)
    assert (await one.reserve(1)).why == "reduced"


async def test_a_lease_from_a_time_of_low_credit_holds_nobody_back_after_it(redis: Redis) -> None:
    one, other = bucket(redis, 600), bucket(redis, 600)
    await one.hold(0, "reduced")
    await granted(one)
    await turn_clock(redis, 15)
    assert (await other.reserve(1)).times == ()
    await turn_clock(redis, 300, fields=("reduced",))
    full = await other.reserve(1)
    assert full.times == (full.now,)


async def test_low_credit_does_not_raise_a_lower_limit(redis: Redis) -> None:
    mine = bucket(redis, 2)
    await mine.hold(0, "reduced")
    assert (await mine.reserve(1)).times
    await mine.finish_request()
    await turn_clock(redis, 29)
    assert (await mine.reserve(1)).times == ()
    await turn_clock(redis, 1)
    assert (await mine.reserve(1)).times


async def granted(limit: RateLimit) -> Reservation:
    answer = await limit.reserve(5)
    assert (len(answer.times), answer.leased) == (1, True)
    return answer


async def test_below_sixty_a_minute_the_next_starts_an_interval_after_the_answer(redis: Redis) -> None:
    one, other = bucket(redis, 30), bucket(redis, 30)
    await granted(one)
    waiting = await other.reserve(5)
    assert (waiting.times, waiting.why) == ((), "")
    assert 0 < waiting.wait <= SECOND / 10, "it may be answered at any moment"
    await turn_clock(redis, 20)
    assert (await other.reserve(5)).times == (), "however long the answer takes"
    await one.finish_request()
    assert SECOND / 2 < (await other.reserve(5)).wait <= SECOND
    await turn_clock(redis, 1.9)
    assert 0 < (await other.reserve(5)).wait <= SECOND / 10
    await turn_clock(redis, 0.1)
    await granted(other)


async def test_a_lease_runs_out_with_its_process(redis: Redis) -> None:
    dead, other = bucket(redis, 30), bucket(redis, 30)
    await granted(dead)
    await turn_clock(redis, 118)
    assert (await other.reserve(1)).times == ()
    await turn_clock(redis, 2)
    await granted(other)


async def test_a_late_answer_does_not_end_the_lease_of_another(redis: Redis) -> None:
    slow, other = bucket(redis, 30), bucket(redis, 30)
    await granted(slow)
    await turn_clock(redis, 120)
    await granted(other)
    await slow.finish_request()
    await turn_clock(redis, 30)
    assert (await slow.reserve(1)).times == ()


async def test_a_lease_that_is_given_back_is_free_at_once(redis: Redis) -> None:
    one, other = bucket(redis, 30), bucket(redis, 30)
    await granted(one)
    await one.give_back()
    await granted(other)


async def test_a_hold_ends_the_lease_of_the_request_that_was_refused(redis: Redis) -> None:
    one, other = bucket(redis, 30), bucket(redis, 30)
    await granted(one)
    await one.hold(10, "throttled")
    await turn_clock(redis, 9.5)
    assert (await other.reserve(1)).times == ()
    await turn_clock(redis, 0.6)
    await granted(other)


async def test_pause_and_trouble_are_for_creates_only(redis: Redis) -> None:
    create, read = bucket(redis, 600), bucket(redis, 3000, "read")
    await redis.set(keys.trouble(API_HOST), "the disk is full")
    assert [(await create.reserve(1)).why, (await create.reserve(1)).text] == ["trouble", "the disk is full"]
    await redis.set(keys.pause(API_HOST), "402: no credit")
    answer = await create.reserve(1)
    assert (answer.why, answer.text, answer.times, answer.wait) == ("paused", "402: no credit", (), SECOND / 2)
    assert (await read.reserve(1)).times
    await redis.delete(keys.pause(API_HOST), keys.trouble(API_HOST))
    assert (await create.reserve(1)).times


async def test_holds_of_no_stated_length_double_for_all_workers_and_begin_anew_later(redis: Redis) -> None:
    one, other = bucket(redis, 600), bucket(redis, 600)
    lengths = []
    for holder in (one, other, one, other, one, other, one, other):
        lengths.append(round(await holder.hold(None, "throttled")))
        await redis.hset(keys.limit(API_HOST, "create"), "hold", str(await micros(redis) - 1000))
    assert lengths == [1, 2, 4, 8, 16, 32, 60, 60]
    await redis.hset(keys.limit(API_HOST, "create"), "hold", str(await micros(redis) - 60 * SECOND))
    assert round(await one.hold(None, "throttled")) == 1
    assert await other.hold(None, "throttled") <= 1, "under way when the first was answered: no strike"


async def test_an_outage_says_nothing_of_the_limit(redis: Redis) -> None:
    one = bucket(redis, 600)
    assert await one.hold(15, "outage") == pytest.approx(15, abs=0.1)
    shared = await redis.hmget(keys.limit(API_HOST, "create"), ["share", "gentle", "reduced"])
    assert shared == [b"1", b"0", b"0"]
    assert (await one.reserve(1)).why == "held"


async def micros(redis: Redis) -> int:
    seconds, rest = await redis.time()
    return int(seconds * SECOND + rest)
