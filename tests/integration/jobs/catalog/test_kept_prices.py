"""A batch keeps the prices that it was estimated by, whatever prices.toml says later."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jobs.batch_folder.folder import Folder
from jobs.budget import Budget
from jobs.catalog.models_file import read_cards
from jobs.config import Config
from jobs.enqueue.enqueue import Order, Receipt, check, enqueue, retry
from jobs.errors import InputError, StorageError
from jobs.prices.setting import Prices
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from simulator.models.registry import MODELS

COMMUNITY = "simulator/community"
PINNED = f"{COMMUNITY}:{MODELS[COMMUNITY].version}"
Enqueue = Callable[..., Awaitable[Receipt]]


@pytest.fixture
def config(config: Config, tmp_path: Path, simulator: Any) -> Config:
    simulator.settings(limiter="off")
    return config.model_copy(update={"prices_file": tmp_path / "prices.toml", "max_attempts": 1})


@pytest.fixture
def folder(config: Config) -> Folder:
    return Folder(config.output_dir, "night")


@pytest.fixture
def price(config: Config) -> Callable[..., None]:
    """`price(0.01, "a/b")`: what an image of these models costs from now on."""

    def write(dollars: float, *models: str) -> None:
        price = f'prices = [{{ metric = "image_output_count", dollars = {dollars} }}]'
        config.prices_file.write_text("".join(f'[[model]]\nname = "{model}"\n{price}\n' for model in models))

    return write


@pytest.fixture
def order(tmp_path: Path) -> Callable[..., Order]:
    def write(*models: str, **more: Any) -> Order:
        rows = [{"id": f"p{n}", "model": model, "input": {"prompt": "x"}} for n, model in enumerate(models)]
        path = tmp_path / "night.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return Order(str(path), **more)

    return write


@pytest.fixture
def enqueued(config: Config, redis: Redis, order: Callable[..., Order]) -> Enqueue:
    async def run(*models: str, settings: dict[str, Any] | None = None, **more: Any) -> Receipt:
        return await enqueue(order(*models, **more), config.model_copy(update=settings or {}), redis)

    return run


def costs(receipt: Any) -> tuple[float | None, float | None]:
    return receipt.cost_at_least, receipt.cost_at_most


async def test_a_row_without_a_count_is_estimated_by_its_schema(
    enqueued: Enqueue, config: Config, price: Callable[..., None], order: Callable[..., Order]
) -> None:
    price(0.01, "simulator/image")
    assert costs(await check(order("simulator/image"), config)) == (0.01, 0.01)
    assert costs(await enqueued("simulator/image")) == (0.01, 0.01)
    unchecked = order("simulator/image", name="other", model_check=False)
    assert costs(await check(unchecked, config)) == (0.01, None)


async def test_a_batch_keeps_the_prices_that_it_began_with(
    enqueued: Enqueue,
    config: Config,
    redis: Redis,
    folder: Folder,
    price: Callable[..., None],
    order: Callable[..., Order],
) -> None:
    price(0.01, "simulator/image")
    await enqueued("simulator/image", "simulator/image", limit=1)
    kept = folder.models.read_bytes()
    price(0.05, "simulator/image")
    told = (
        "simulator/image: this batch keeps the prices that it began with: $0.01 per output image; now they are $0.05 "
        "per output image. BATCH_PRICES would hold over both"
    )
    checked = await check(order("simulator/image", "simulator/image"), config)
    assert (costs(checked), checked.warnings) == ((0.02, 0.02), (told,))
    receipt = await enqueued("simulator/image", "simulator/image")
    assert (costs(receipt), receipt.warnings) == ((0.02, 0.02), [told])
    assert folder.models.read_bytes() == kept
    for index in range(2):
        await Batches(redis).settle("night", index, "failed")
    again = await retry("night", config, redis)
    assert (costs(again), again.warnings) == ((0.02, 0.02), [told])
    config.prices_file.unlink()
    assert costs(await enqueued("simulator/image", "simulator/image")) == (0.02, 0.02)
    setting = {"prices": Prices.parse("simulator/image=0.5")}
    receipt = await enqueued("simulator/image", "simulator/image", settings=setting)
    assert (costs(receipt), receipt.warnings) == ((1.0, 1.0), [])


async def test_prices_are_kept_by_the_pinned_name(
    enqueued: Enqueue, folder: Folder, price: Callable[..., None]
) -> None:
    price(0.01, COMMUNITY)
    await enqueued(COMMUNITY)
    assert list(read_cards(folder)) == [PINNED]
    price(0.05, PINNED)
    assert (await enqueued(COMMUNITY)).cost_at_least == 0.01


@pytest.mark.parametrize("model_check", [True, False])
async def test_a_batch_that_began_without_prices_keeps_those_of_its_retry(
    enqueued: Enqueue,
    config: Config,
    redis: Redis,
    folder: Folder,
    price: Callable[..., None],
    *,
    model_check: bool,
) -> None:
    await enqueued("simulator/image", model_check=model_check)
    assert read_cards(folder) == {}
    price(0.01, "simulator/image")
    await Batches(redis).settle("night", 0, "failed")
    assert (await retry("night", config, redis)).cost_at_least == 0.01
    (card,) = read_cards(folder).values()
    assert card.tiers[0].rates[0].dollars == Decimal("0.01")
    assert card.defaults == ({"num_outputs": 1} if model_check else {})


@pytest.mark.parametrize("damage", ['{"price_cards": {"a/b": "[[model]]"}}', '{"price_cards": {"a/b": 1}}', "[]"])
async def test_damaged_prices_are_told(
    enqueued: Enqueue, folder: Folder, price: Callable[..., None], damage: str
) -> None:
    price(0.01, "simulator/image")
    await enqueued("simulator/image")
    folder.models.write_text(damage)
    with pytest.raises(StorageError, match=r"models\.json is not as it was written"):
        await enqueued("simulator/image")


async def test_a_budget_needs_a_price_that_the_batch_does_not_keep(
    enqueued: Enqueue, price: Callable[..., None]
) -> None:
    price(0.01, "simulator/image")
    await enqueued("simulator/image", budget=Budget(None, 1_000_000, None))
    price(0.01, "simulator/poster")
    assert costs(await enqueued("simulator/image")) == (0.01, 0.01)
    with pytest.raises(InputError, match="simulator/text has no price"):
        await enqueued("simulator/image", "simulator/text")
