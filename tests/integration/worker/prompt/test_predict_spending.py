"""The path of a prompt and its money: what is free, what is counted, and where a budget ends it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jobs.catalog.models_file import keep_models
from jobs.config import Config
from jobs.errors import PriceError
from jobs.prices.file import parse_cards
from jobs.prices.price_list import PriceBook
from jobs.prices.setting import Prices
from jobs.redis_client import keys
from jobs.replicate_api.predictions import CREATE_TIMEOUT
from jobs.state.status import read_status
from jobs.wire import Batch, Prompt, Result, Shard, Status
from tests.integration.worker.prompt.works import INPUT, record_of
from worker.context import Context, Work
from worker.limits.circuit_breaker import ModelPaused
from worker.prompt.create import MAX_UNKNOWN
from worker.prompt.predict import predict
from worker.shard.run import load_works
from worker.timing import Timing

PROMPTS = [Prompt(index, f"cat-{index}", "simulator/image", INPUT | {"seed": index}) for index in range(3)]


@pytest.fixture
def timing() -> Timing:
    """A search for a lost create gives up soon, and what waits checks often."""
    return Timing(jitter=lambda: 0.01, sure_after=0.2 - CREATE_TIMEOUT)


@pytest.fixture
async def worker(
    simulator: Any,
    open_worker: Callable[..., Awaitable[Context]],
    open_batch: Callable[..., Awaitable[Batch]],
) -> Context:
    simulator.settings(limiter="off", predict_min=0.05, predict_max=0.1, loose=0.0)
    worker = await open_worker(max_attempts=2, prices=Prices.parse("simulator/image=0.003"))
    await open_batch(worker, total=3)
    return worker


@pytest.fixture
def unanswered(simulator: Any) -> None:
    """No create is answered, and the list shows none."""
    simulator.control(lost_answer=1.0, list_lag={"rate": 1.0, "seconds": 600})


def work(worker: Context, index: int = 0) -> Work:
    return Work(worker, Shard("night", "b1", 0, 0, tuple(PROMPTS)), PROMPTS[index])


def record(worker: Context, index: int = 0) -> Result:
    return record_of(work(worker, index))


async def status(worker: Context) -> Status:
    return await read_status(worker.redis, await worker.batches.get("night"))


async def test_a_prediction_costs_its_price(worker: Context) -> None:
    await predict(work(worker))
    assert record(worker).cost == 0.003
    now = await status(worker)
    assert (now.predictions, now.cost, now.max_cost) == (1, 0.003, None)


async def test_each_attempt_costs(worker: Context, simulator: Any) -> None:
    simulator.control(failed={"next": 1})
    await predict(work(worker))
    assert (record(worker).attempts, record(worker).cost) == (2, 0.006)
    assert (await status(worker)).cost == 0.006


def priced(worker: Context, **settings: Any) -> Context:
    """The same worker with other prices."""
    config = worker.config.model_copy(update={"prices": Prices()} | settings)
    return dataclasses.replace(worker, config=config, prices=PriceBook(config))


async def test_seconds_cost_what_they_took(worker: Context) -> None:
    worker = priced(worker, prices=Prices.parse("simulator/image=0.5/s max 2"))
    await predict(work(worker))
    result = record(worker)
    assert result.cost == pytest.approx(result.metrics["predict_time"] / 2, abs=1e-6)
    assert (await status(worker)).cost == result.cost


CARDS = """
[[model]]
name = "simulator/poster"
prices = [{ metric = "image_output_count", dollars = 0.05 }]

[[model]]
name = "simulator/tokens"
prices = [
  { metric = "token_input_count", dollars = 0.25, per = 1_000_000 },
  { metric = "token_output_count", dollars = 1.25, per = 1_000_000 },
]

[[model]]
name = "simulator/film"

[[model.tier]]
criteria = { model_variant = "with_audio", resolution_target = "720p" }
prices = [{ metric = "video_output_duration_seconds", dollars = 0.40 }]

[[model.tier]]
criteria = { model_variant = "without_audio", resolution_target = "720p" }
prices = [{ metric = "video_output_duration_seconds", dollars = 0.20 }]
"""


@pytest.fixture
def with_cards(worker: Context, tmp_path: Path) -> Context:
    (tmp_path / "prices.toml").write_text(CARDS)
    return priced(worker, prices_file=tmp_path / "prices.toml")


def row(worker: Context, index: int, model: str, **values: Any) -> Work:
    prompt = Prompt(index, f"p{index}", f"simulator/{model}", {"prompt": "a quiet lamp", **values})
    return Work(worker, work(worker).shard, prompt)


async def test_the_bill_is_made_by_the_rate_card_from_metrics(with_cards: Context, simulator: Any) -> None:
    rows = [
        (row(with_cards, 0, "poster", quality="medium", number_of_images=2), 0.1),
        (row(with_cards, 1, "film", generate_audio=False), 1.6),
        (row(with_cards, 2, "tokens", count=40), 0.000051),
    ]
    for one, dollars in rows:
        await predict(one)
        found = one.folder.read_record(one.prompt.id)
        assert found
        assert (found.status, found.cost) == ("succeeded", dollars), found.metrics
    billed = Decimal(simulator.ledger()["billed"])
    assert ((await status(with_cards)).cost, billed) == (1.700051, Decimal("1.70005075"))


async def test_the_most_of_a_row_is_reserved_and_what_is_not_used_comes_back(
    with_cards: Context, simulator: Any
) -> None:
    await with_cards.batches.set_budget("night", None, 3_000_000)
    simulator.settings(predict_min=1.0, predict_max=1.0)
    simulator.control(failed={"next": 1})
    poster = asyncio.create_task(predict(row(with_cards, 0, "poster", number_of_images=9)))
    while (await status(with_cards)).cost != 0.45:  # noqa: ASYNC110 - it is in Redis
        await asyncio.sleep(0.02)
    await poster
    assert (await status(with_cards)).cost == 0.45, "nothing for the attempt that failed"
    await predict(row(with_cards, 1, "film", duration=4, generate_audio=False))
    assert (await status(with_cards)).cost == 1.25
    await predict(row(with_cards, 2, "film", duration=6))
    assert ((await status(with_cards)).over_budget, (await status(with_cards)).cost) == (1, 1.25)


async def test_a_row_whose_most_is_not_known_waits_when_dollars_are_limited(
    with_cards: Context, eventually: Callable[..., Any]
) -> None:
    await with_cards.batches.set_budget("night", None, 1_000_000)
    prompt = asyncio.create_task(predict(row(with_cards, 0, "tokens")))
    await eventually(lambda: with_cards.waits.reason_before_create("night/p0") == "price simulator/tokens")
    prompt.cancel()
    await asyncio.wait([prompt])
    assert (await status(with_cards)).predictions == 0


def test_prices_are_read_again_when_the_file_changes(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    book = PriceBook(config.model_copy(update={"prices_file": file}))
    assert book.of("simulator/film") is None
    file.write_text(CARDS)
    assert book.of("simulator/film") is None
    book.look()
    before = book.of("simulator/film")
    assert before
    file.write_text("[[model]]\n")
    with pytest.raises(PriceError, match="line 1"):
        book.look()
    assert book.of("simulator/film") is before
    file.unlink()
    book.look()
    assert book.of("simulator/film") is None


@pytest.mark.parametrize(("text", "cost"), [(None, 0.003), ("{", 0.9)])
async def test_a_batch_is_billed_by_the_prices_that_it_keeps(
    worker: Context, tmp_path: Path, text: str | None, cost: float
) -> None:
    """Without them, or when they cannot be read, by those of now."""
    file = tmp_path / "prices.toml"
    price = '[[model]]\nname = "simulator/image"\nprices = [{ metric = "image_output_count", dollars = 0.003 }]\n'
    folder = work(worker).folder
    keep_models(folder, {}, parse_cards(price, file), fsync=False)
    if text:
        folder.models.write_text(text)
    file.write_text(price.replace("0.003", "0.9"))
    worker = priced(worker, prices_file=file)
    one, *_ = await load_works(worker, work(worker).shard)
    await predict(one)
    assert (record(worker).cost, (await status(worker)).cost) == (cost, cost)
    work_without = dataclasses.replace(one, cards={}, prompt=PROMPTS[1])
    await predict(work_without)
    assert record(worker, 1).cost == 0.9


async def test_a_model_without_a_price_has_no_cost(worker: Context) -> None:
    other = Work(worker, work(worker).shard, Prompt(0, "text", "simulator/text", {"prompt": "x"}))
    await predict(other)
    assert record_of(other).cost is None
    now = await status(worker)
    assert (now.predictions, now.cost) == (1, None)


async def test_what_is_refused_costs_nothing(worker: Context) -> None:
    wrong = Work(worker, work(worker).shard, Prompt(0, "wrong", "simulator/image", {"prompt": "x", "num_outputs": 9}))
    await predict(wrong)
    found = record_of(wrong)
    assert (found.attempts, found.cost) == (1, 0.0)
    assert (await status(worker)).predictions == 0


async def test_what_never_started_is_free_five_times(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    simulator.control(aborted={"next": 5})
    await predict(work(worker))
    result = record(worker)
    assert (result.status, result.attempts, len(result.prediction_ids), result.cost) == ("succeeded", 1, 6, 0.003)
    now = await status(worker)
    assert (now.aborted, now.cost) == (5, 0.003)

    async def reason() -> str:
        found = (await status(worker)).reason or ""
        return found if "BATCH_DEADLINE is too short" in found else ""

    assert "simulator/image" in await eventually(reason), "once the last wait is no longer reported"


async def test_but_not_for_ever(worker: Context, simulator: Any) -> None:
    simulator.control(aborted=1.0)
    await predict(work(worker))
    result = record(worker)
    assert result.error
    assert (result.error.kind, result.attempts, len(result.prediction_ids), result.cost) == ("aborted", 1, 6, 0.0)
    assert (await status(worker)).aborted == 6


async def test_lost_outputs_are_counted_apart(worker: Context, simulator: Any) -> None:
    simulator.control(data_removed=1.0)
    await predict(work(worker))
    result = record(worker)
    assert result.error
    assert (result.error.kind, result.attempts, result.cost) == ("output_lost", 2, 0.006)
    assert (await status(worker)).output_lost == 2


async def test_a_spent_budget_ends_the_prompts_that_are_left(worker: Context, simulator: Any) -> None:
    await worker.batches.set_budget("night", 2, None)
    await asyncio.gather(*(predict(work(worker, index)) for index in range(3)))
    results = [record(worker, index) for index in range(3)]
    left = [result for result in results if result.status == "failed"]
    assert [result.error and result.error.kind for result in left] == ["over_budget"]
    assert (left[0].attempts, left[0].prediction_ids, left[0].cost) == (0, (), 0.0)
    assert simulator.ledger()["created"] == 2
    now = await status(worker)
    assert (now.predictions, now.max_predictions, now.cost, now.failed) == (2, 2, 0.006, 1)


async def test_a_failure_frees_no_money_that_was_spent(worker: Context, simulator: Any) -> None:
    simulator.control(failed=1.0)
    await worker.batches.set_budget("night", None, 3_000)
    await predict(work(worker))
    result = record(worker)
    assert result.error
    assert (result.error.kind, result.cost, simulator.ledger()["created"]) == ("over_budget", 0.003, 1)


async def test_a_prompt_waits_while_open_attempts_may_free_some(
    worker: Context, eventually: Callable[..., Any]
) -> None:
    await worker.batches.set_budget("night", 1, None)
    open_attempt = await work(worker, 1).ledger.intend(await work(worker, 1).ledger.read(), 3_000)
    prompt = asyncio.create_task(predict(work(worker)))
    await eventually(lambda: "b1" in worker.short_of_budget)
    assert not prompt.done()
    await work(worker, 1).ledger.withdraw(open_attempt)
    await prompt
    assert record(worker).status == "succeeded"


async def test_a_missing_price_holds_back_what_has_a_limit(worker: Context, eventually: Callable[..., Any]) -> None:
    await worker.batches.set_budget("night", None, 1_000_000)
    unpriced = Work(worker, work(worker).shard, Prompt(0, "text", "simulator/text", {"prompt": "x"}))
    prompt = asyncio.create_task(predict(unpriced))
    await eventually(lambda: worker.waits.reason_before_create("night/text") == "price simulator/text")
    assert not prompt.done()
    prompt.cancel()
    await asyncio.wait([prompt])
    assert (await status(worker)).predictions == 0


@pytest.mark.usefixtures("unanswered")
async def test_creates_that_nobody_can_find_are_counted_to_the_last(worker: Context, simulator: Any) -> None:
    await predict(work(worker))
    result = record(worker)
    assert result.error
    made = simulator.ledger()["created"]
    assert (result.error.kind, result.attempts, result.prediction_ids) == ("create_unknown", 1, ())
    assert result.unknown_creates == made == MAX_UNKNOWN + 1
    now = await status(worker)
    assert (now.unknown_creates, now.predictions) == (made, made)
    assert now.cost == result.cost == pytest.approx(0.003 * made)


@pytest.mark.usefixtures("unanswered")
async def test_lost_creates_that_used_up_the_budget_do_not_wait_for_each_other(worker: Context, simulator: Any) -> None:
    await worker.batches.set_budget("night", 2, None)
    await asyncio.gather(*(predict(work(worker, index)) for index in range(2)))
    results = [record(worker, index) for index in range(2)]
    assert [result.error and result.error.kind for result in results] == ["over_budget"] * 2
    assert [result.unknown_creates for result in results] == [1, 1]
    assert simulator.ledger()["created"] == 2
    assert ((await status(worker)).predictions, (await status(worker)).unknown_creates) == (2, 2)


async def test_a_spent_budget_uses_up_no_start_times(worker: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    request = worker.gate.request

    def counted(bucket: str, *arguments: Any, **options: Any) -> AbstractAsyncContextManager[None]:
        taken.append(bucket)
        return request(bucket, *arguments, **options)

    monkeypatch.setattr(worker.gate, "request", counted)
    await worker.batches.set_budget("night", 0, None)
    shard = work(worker).shard
    prompts = [Prompt(index, f"p-{index}", "simulator/image", INPUT) for index in range(60)]
    await asyncio.gather(*(predict(Work(worker, shard, prompt)) for prompt in prompts))
    assert 1 <= taken.count("create") <= 25  # those that were at the gate already


def is_barred(worker: Context) -> bool:
    try:
        worker.breaker.check("simulator/image", "night/another")
    except ModelPaused:
        return True
    return False


@pytest.mark.parametrize("probe", ["", "night/cat-0"], ids=["not yet the probe", "the probe, when another was refused"])
async def test_a_probe_that_has_to_wait_for_its_budget_lets_another_try(
    worker: Context, eventually: Callable[..., Any], probe: str
) -> None:
    await worker.batches.set_budget("night", 1, None)
    await work(worker, 1).ledger.intend(await work(worker, 1).ledger.read(), 3_000)
    pause = {"failures": 26, "of": 26, "refusals": 0, "message": "x", "pause": 100, "next": 0}
    pause |= {"probe": probe, "since": int(time.time() * 1000)}
    paused = keys.paused_models(worker.config.api_host)
    await worker.redis.hset(paused, "simulator/image", json.dumps(pause))
    await eventually(lambda: is_barred(worker))
    worker.short_of_budget.update({"b1"} if probe else ())
    prompt = asyncio.create_task(predict(work(worker)))
    await eventually(lambda: "b1" in worker.short_of_budget)

    async def is_free() -> bool:
        text = await worker.redis.hget(paused, "simulator/image")
        return bool(json.loads(text)["probe"] == "")

    await eventually(is_free)
    prompt.cancel()
    await asyncio.wait([prompt])


@pytest.mark.usefixtures("unanswered")
async def test_what_lost_creates_reserved_is_not_waited_for_even_if_others_were_refused_before(
    worker: Context, simulator: Any
) -> None:
    await worker.batches.set_budget("night", 2, None)
    lost = [asyncio.create_task(predict(work(worker, index))) for index in range(2)]
    while simulator.ledger()["created"] < 2:  # noqa: ASYNC110 - it is in another process
        await asyncio.sleep(0.02)
    await asyncio.gather(predict(work(worker, 2)), *lost)
    results = [record(worker, index) for index in range(3)]
    assert [result.error and result.error.kind for result in results] == ["over_budget"] * 3
    assert [result.unknown_creates for result in results] == [1, 1, 0]
