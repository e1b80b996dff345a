from __future__ import annotations

import json
import os
import pty
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from jobs.batch_folder.folder import Folder
from jobs.cli.costs import NOTHING
from jobs.config import Config
from jobs.prices.setting import Prices
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches

Cli = Callable[..., Any]
PRICES = Prices.parse("a/b=0.003")
ENQUEUE = ("enqueue", "cats.jsonl", "--model", "a/b", "--no-model-check")


@pytest.fixture(autouse=True)
def _source(tmp_path: Path) -> None:
    rows = [{"prompt": f"cat {number}"} for number in range(150)]
    (tmp_path / "cats.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


async def test_without_a_terminal_nobody_can_agree_to_the_costs(cli: Cli, config: Config, redis: Redis) -> None:
    for prices, words in ((PRICES, "at least $0.45, at most $1.35"), (Prices(), "an amount that is not known")):
        refused = cli(*ENQUEUE, "--confirm-above", "1.34", prices=prices)
        assert (refused.code, refused.out) == (2, "")
        assert words in refused.err
        assert "no terminal to ask at. Give a higher --confirm-above or none; nothing was enqueued" in refused.err
    assert await Batches(redis).names() == []
    assert list(config.output_dir.iterdir()) == []
    assert cli(*ENQUEUE, "--confirm-above", "1.35", prices=PRICES).code == 0
    await Batches(redis).settle("cats", 0, "failed")
    for index in range(1, 150):
        await Batches(redis).settle("cats", index, "succeeded")
    refused = cli("retry", "cats", "--confirm-above", "0", prices=PRICES)
    assert (refused.code, "cats costs at least $0.003, at most $0.009" in refused.err) == (2, True)
    assert (await Batches(redis).get("cats")).failed == 1
    done = cli(*ENQUEUE, "--confirm-above", "0.001", prices=PRICES)
    assert (done.code, done.out.splitlines()[0]) == (0, "cats: 150 prompts, all done already; nothing was enqueued")


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("\n", 2), ("n\n", 2)])
def test_a_terminal_is_asked(
    config: Config, environment_of: Callable[[Config], dict[str, str]], nursery: Any, answer: str, code: int
) -> None:
    ours, theirs = pty.openpty()
    env = environment_of(config.model_copy(update={"prices": PRICES}))
    with os.fdopen(ours, "wb"), os.fdopen(theirs, "rb") as typed:
        os.write(ours, answer.encode())
        done = nursery.run("-m", "jobs", *ENQUEUE, "--confirm-above", "1", env=env, stdin=typed)
    assert done.code == code
    assert "cats.jsonl costs at least $0.45, at most $1.35. Go on? [y/N]:" in done.err
    assert ("150 prompts enqueued" in done.out) == (code == 0)
    assert ("nothing was enqueued" in done.err) == (code != 0)


def test_check_names_what_is_not_known(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(
        '[[model]]\nname = "a/b"\nprices = [{ metric = "image_output_count", dollars = 0.01 }]\n'
    )
    answer = cli(*ENQUEUE, "--check")
    first, second, _ = answer.out.splitlines()
    assert first == "cats.jsonl: 150 prompts, no error; costs at least $1.50; how much at most is not known"
    what = "the number of output images (image_output_count)"
    assert second == f"line 1: a/b: {what} is not known before it runs, and 149 more prompts"
    refused = cli(*ENQUEUE, "--check", "--max-cost", "5")
    assert (refused.code, "at_most = { image_output_count = 4 }" in refused.err) == (2, True)
    answer = cli(*ENQUEUE, "--input", "num_outputs=2", "--check", "--max-cost", "5")
    assert answer.out.splitlines()[0] == "cats.jsonl: 150 prompts, no error; costs at least $3.00, at most $9.00"


@pytest.fixture
def batches_on_disk(config: Config) -> None:
    ids = map(str, count())

    def keep(batch: str, place: str, **record: Any) -> None:
        folder = Folder(config.output_dir, batch).path
        prompt = place.rpartition("/")[2].partition(".")[0]
        (folder / place).mkdir(parents=True)
        (folder / "batch.json").write_text("{}")
        (folder / place / "prediction.json").write_text(
            json.dumps({"id": prompt, "prediction_ids": [next(ids)], "unknown_creates": 0} | record)
        )

    keep("one", "p0", model="a/b", cost=0.1, saved_at="2026-10-31T23:00:00.000Z")
    keep("one", "p1", model="a/b", cost=0.2, saved_at="2026-11-02T00:00:00.000Z")
    keep("one", ".retried/p1.0", model="a/b", cost=0.4, saved_at="2026-11-01T12:00:00.000Z")
    late = {"model": "a/b", "saved_at": "2026-11-01T12:00:00.000Z"}  # a retry that was cut left what a worker saved
    keep("one", ".retried/p1.1", **late, cost=0.1, prediction_ids=["seen", "late"])
    keep("one", ".retried/p1.1.1", **late, cost=0.05, prediction_ids=["seen"])
    keep("one", "p2", model="c/d", cost=None, saved_at="2026-11-02T00:00:00.000Z")
    keep("one", "p5", model="c/d", cost=None, prediction_ids=[], saved_at="2026-11-02T00:00:00.000Z")
    keep("two", "p0", model="a/b", cost=1.5, saved_at="2026-10-01T00:00:00.000Z")
    (config.output_dir / "no batch").mkdir()
    (config.output_dir / "one" / "p3").mkdir()
    (config.output_dir / "one" / "p4").mkdir()
    (config.output_dir / "one" / "p4" / "prediction.json").write_text("{")


@pytest.mark.usefixtures("batches_on_disk")
def test_costs_are_summed_up(cli: Cli) -> None:
    facts = json.loads(cli("costs", "--json").out)
    assert (facts["since"], facts["cost"], facts["cost_is_partial"]) == (None, 2.3, True)
    assert facts["batches"] == [
        {
            "batch": "one",
            "models": {
                "a/b": {"prompts": 2, "predictions": 5, "cost": 0.8, "unknown": 0},
                "c/d": {"prompts": 2, "predictions": 1, "cost": 0.0, "unknown": 1},
            },
        },
        {"batch": "two", "models": {"a/b": {"prompts": 1, "predictions": 1, "cost": 1.5, "unknown": 0}}},
    ]
    assert json.loads(cli("costs", "--since", "2026-11-01T00:00Z", "--json").out)["cost"] == 0.7
    answer = cli("costs", "--since", "2026-11-02T00:00Z")
    assert answer.out.splitlines()[-2] == "$0.20 in all, without 1 prompt of unknown cost"
    assert cli("costs", "--since", "2027-01-01").out == f"{NOTHING}\n"
    refused = cli("costs", "--since", "yesterday")
    assert (refused.code, "'yesterday' is no date or time" in refused.err) == (2, True)
