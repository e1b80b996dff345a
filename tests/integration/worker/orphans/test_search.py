from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from jobs.account.account import Account
from jobs.config import Config
from jobs.errors import ReplicateError
from jobs.redis_client.resilience import Redis
from jobs.replicate_api.client import api_client
from jobs.replicate_api.predictions import Replicate
from jobs.state.claims import Claims
from jobs.wire import Prompt
from worker.limits.rate_limiter import RateLimiter
from worker.limits.request_gate import RequestGate
from worker.limits.token_check import TokenCheck
from worker.orphans.search import OrphanSearch

CAT = Prompt(0, "cat", "simulator/image", {"prompt": "cat"})
DOG = Prompt(1, "dog", "simulator/image", {"prompt": "dog"})


@pytest.fixture
async def replicate(config: Config, simulator: Any) -> AsyncIterator[Replicate]:
    simulator.settings(limiter="off")
    async with api_client(config) as client:
        yield Replicate(client, config)


@pytest.fixture
async def orphans(config: Config, redis: Redis, replicate: Replicate) -> AsyncIterator[OrphanSearch]:
    async with RateLimiter(redis, config.api_host, {"read": 60_000.0}) as limiter:
        account = Account(redis, config.api_host)
        token = TokenCheck(limiter, account, replicate.account)
        gate = RequestGate(limiter, account, token)
        orphans = OrphanSearch(replicate, gate, Claims(redis, config.api_host), 1.0)
        async with orphans.running():
            yield orphans


async def created(replicate: Replicate, *prompts: Prompt) -> list[str]:
    return [(await replicate.create(prompt.model, prompt.input)).id for prompt in prompts]


async def test_predictions_of_equal_input_are_found_oldest_first(orphans: OrphanSearch, replicate: Replicate) -> None:
    first, _, second = await created(replicate, CAT, DOG, CAT)
    assert await orphans.find(CAT, time.time() - 5, time.time()) == [first, second]


async def test_a_claimed_prediction_is_left_out(
    orphans: OrphanSearch, replicate: Replicate, config: Config, redis: Redis
) -> None:
    first, second = await created(replicate, CAT, CAT)
    assert await Claims(redis, config.api_host).disown(first)
    assert await orphans.find(CAT, time.time() - 5, time.time()) == [second]


async def test_all_pages_are_read(orphans: OrphanSearch, replicate: Replicate) -> None:
    (first,) = await created(replicate, CAT)
    await created(replicate, *[DOG] * 130)
    assert await orphans.find(CAT, time.time() - 60, time.time()) == [first]


async def test_what_was_created_long_before_the_intent_is_not_its(
    orphans: OrphanSearch, replicate: Replicate, simulator: Any
) -> None:
    await created(replicate, CAT)
    simulator.advance(600)
    (second,) = await created(replicate, CAT)
    assert await orphans.find(CAT, time.time(), time.time()) == [second]


async def test_those_who_search_at_once_share_one_read_of_the_list(
    orphans: OrphanSearch, replicate: Replicate, simulator: Any
) -> None:
    cat, dog = await created(replicate, CAT, DOG)
    now = time.time()
    found = await asyncio.gather(*(orphans.find(prompt, now - 5, now) for prompt in [CAT, DOG] * 5))
    assert found == [[cat], [dog]] * 5
    assert simulator.ledger(summary=True)["calls"]["list"] == 1


async def test_a_list_that_cannot_be_read_is_an_error_for_all_who_search(orphans: OrphanSearch, simulator: Any) -> None:
    simulator.control(error={"next": 1, "kinds": ["list"]})
    now = time.time()
    both = await asyncio.gather(*(orphans.find(CAT, now, now) for _ in range(2)), return_exceptions=True)
    assert [isinstance(one, ReplicateError) for one in both] == [True, True]
    assert await orphans.find(CAT, now, now) == []


async def test_what_nobody_expected_is_an_error_too(
    orphans: OrphanSearch, replicate: Replicate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def odd(**_: object) -> None:
        raise KeyError("odd")

    monkeypatch.setattr(replicate, "list", odd)
    with pytest.raises(ReplicateError, match="odd"):
        await orphans.find(CAT, time.time(), time.time())
    monkeypatch.undo()
    assert await orphans.find(CAT, time.time(), time.time()) == []


async def test_who_stops_searching_disturbs_nobody(orphans: OrphanSearch, replicate: Replicate) -> None:
    (cat,) = await created(replicate, CAT)
    now = time.time()
    gone, stays = (asyncio.create_task(orphans.find(CAT, now - 5, now)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == [cat]
