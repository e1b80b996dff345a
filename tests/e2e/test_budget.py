"""A budget in dollars or predictions holds for any number of workers, and after Redis was wiped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from jobs.budget import UNCHANGED, Budget
from jobs.config import Config
from jobs.enqueue.enqueue import Order, Receipt, enqueue, retry
from jobs.prices.setting import Prices
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.state.status import read_status
from jobs.wire import Status

FAST = {"creates_per_minute": 60_000.0, "reads_per_minute": 60_000.0, "poll_interval": 0.1}


@dataclasses.dataclass(frozen=True)
class Operations:
    """Its commands run in this process; the workers do not."""

    night: Any
    redis: Redis
    worker_process: Callable[..., Any]

    @property
    def config(self) -> Config:
        found: Config = self.night.config
        return found

    async def enqueue(self, count: int, budget: Budget = UNCHANGED) -> Receipt:
        file = self.config.output_dir.parent / f"{self.night.name}.csv"
        file.write_text("prompt,width,height\n" + "".join(f"cat {n},16,16\n" for n in range(count)))
        return await enqueue(Order(str(file), model="simulator/image", budget=budget), self.config, self.redis)

    async def retry(self, budget: Budget) -> Receipt:
        return await retry(self.night.name, self.config, self.redis, budget)

    async def status(self) -> Status:
        return await read_status(self.redis, await Batches(self.redis).get(self.night.name))

    def work(self, workers: int = 1) -> None:
        """Let workers empty the queue."""
        started = [self.worker_process("--burst", prices=self.config.prices, **FAST) for _ in range(workers)]
        assert [worker.wait() for worker in started] == [0] * workers

    def kinds(self) -> dict[str, int]:
        found = [result["error"]["kind"] if result["error"] else result["status"] for result in self.night.results()]
        return {kind: found.count(kind) for kind in found}

    def created(self) -> int:
        return int(self.night.ledger()["created"])


@pytest.fixture
def desk(night: Any, redis: Redis, worker_process: Callable[..., Any]) -> Operations:
    """Where each picture costs 0.003 dollars."""
    priced = night.config.model_copy(update={"prices": Prices.parse("simulator/image=0.003")})
    return Operations(dataclasses.replace(night, config=priced), redis, worker_process)


async def test_two_workers_never_spend_more_and_a_higher_budget_goes_on(desk: Operations) -> None:
    receipt = await desk.enqueue(150, Budget(max_cost=100_000))
    assert (receipt.cost_at_least, receipt.cost_at_most) == (0.45, 1.35)
    desk.work(workers=2)
    assert desk.created() == 33
    assert desk.kinds() == {"succeeded": 33, "over_budget": 117}
    assert {result["cost"] for result in desk.night.check()} == {0.003, 0.0}
    status = await desk.status()
    assert (status.state, status.over_budget, status.predictions) == ("finished", 117, 33)
    assert (status.cost, status.max_cost) == (0.099, 0.1)
    receipt = await desk.retry(Budget(max_cost=500_000))
    assert (receipt.enqueued, receipt.cost_at_least) == (117, 0.351)
    desk.work()
    assert desk.kinds() == {"succeeded": 150}
    assert desk.night.ledger()["cost"] == (await desk.status()).cost == 0.45
    assert "cost $0.45" in " ".join(desk.night.cli("results", "night").out.split())
    desk.night.paid_once()


async def test_a_wiped_redis_costs_nothing_and_the_budget_goes_on(desk: Operations) -> None:
    done = dataclasses.replace(desk, night=dataclasses.replace(desk.night, name="done"))
    await done.enqueue(5)
    await desk.enqueue(10, Budget(6, 1_000_000))
    desk.work()
    assert desk.created() == 11
    await desk.redis.flushall()
    await done.enqueue(5)
    receipt = await desk.enqueue(12)
    assert (receipt.total, receipt.already_done, receipt.enqueued) == (12, 10, 2)
    status = await desk.status()
    assert (status.predictions, status.max_predictions, status.cost, status.max_cost) == (6, 6, 0.018, 1)
    desk.work()
    assert desk.created() == 11
    assert done.kinds() == {"succeeded": 5}
    status = await done.status()
    assert (status.state, status.predictions, status.cost) == ("finished", 5, 0.015)
    assert desk.kinds() == {"succeeded": 6, "over_budget": 6}
    await desk.retry(Budget(max_predictions=9))
    desk.work()
    assert desk.created() == 14
    status = await desk.status()
    assert (status.predictions, status.cost, status.over_budget) == (9, 0.027, 3)
