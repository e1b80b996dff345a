"""`python -m jobs verify` as a process, and of batches that are not finished."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.config import Config
from jobs.queue.dead_letters import DeadLetters
from jobs.queue.payload import JobId
from jobs.queue.shard_queue import Queue
from jobs.redis_client.resilience import Redis
from jobs.verify.verify import verify

Cli = Callable[..., Any]


@pytest.mark.usefixtures("finished")
def test_it_says_in_one_line_that_all_agrees(cli: Cli) -> None:
    answer = cli("verify", "night")
    assert (answer.code, answer.err) == (0, "")
    assert re.fullmatch(r"night: 10 prompts, 10 results, 6 files \(0.\d MB\): all agree\n", answer.out)


def test_it_says_in_one_line_each_what_does_not(finished: Any, cli: Cli) -> None:
    (finished.folder.path / "one" / "output_0.png").unlink()
    finished.folder.gallery.unlink()
    answer = cli("verify", "night", "--quick")
    assert (answer.code, answer.err) == (1, "")
    file, gallery, *_, last = answer.out.splitlines()
    assert file == "! one: output_0.png is missing. Cure: restore it, or have it created again"
    assert gallery == "! the gallery's index.html is missing. Cure: `python -m jobs gallery night`"
    assert last.endswith("6 of them not read): 2 disagreements")
    facts = json.loads(cli("verify", "night", "--json").out)
    assert [one["prompt"] for one in facts["disagreements"]] == ["one", None]
    assert (facts["batch"], facts["in_redis"], facts["finished"], facts["prompts"]) == ("night", True, True, 10)


def test_exit_codes_of_what_cannot_be_verified(cli: Cli, tmp_path: Path) -> None:
    answer = cli("verify", "nobody")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("Error: neither Redis nor ")
    answer = cli("verify", "nobody", redis_url=f"unix://{tmp_path}/nothing")
    assert (answer.code, answer.out) == (3, "")
    assert cli("verify", "nobody", max_in_flight=-1).code == 2


def test_nothing_is_changed(finished: Any) -> None:
    before = {path: path.lstat().st_mtime_ns for path in finished.folder.path.rglob("*")}
    keys = {key: finished.redis.dump(key) for key in finished.redis.keys("*")}
    finished.folder.gallery.rename(finished.folder.path / "gone.html")
    finished.verify()
    (finished.folder.path / "gone.html").rename(finished.folder.gallery)
    after = {path: path.lstat().st_mtime_ns for path in finished.folder.path.rglob("*")}
    assert after == before
    assert {key: finished.redis.dump(key) for key in finished.redis.keys("*")} == keys


def test_what_nobody_has_begun_agrees(unfinished: Any) -> None:
    found = unfinished.verify()
    assert (found.disagreements, found.finished, found.prompts, found.results) == ((), False, 10, 0)
    assert "not finished" in found.notes[0]


def test_a_job_that_was_lost_is_named(unfinished: Any) -> None:
    unfinished.redis.delete("arq:job:night:0:0")
    (lost,) = unfinished.verify().disagreements
    assert (lost.prompt, lost.cure) == ("one", "`python -m jobs retry night`")
    assert lost.what == "10 prompts have no result, and job night:0:0 is in the queue without its payload"
    unfinished.redis.zrem(f"replicate-batch:queue:1:{unfinished.config.api_host}", "night:0:0")
    (lost,) = unfinished.verify().disagreements
    assert lost.what == "10 prompts have no result, and job night:0:0 is not in the queue"


async def test_a_shard_that_was_set_aside_is_told_and_no_disagreement(unfinished: Any, redis: Redis) -> None:
    await Queue(redis, unfinished.config.api_host).remove("night")
    await DeadLetters(redis).move_to_dead_letters(JobId.parse("night:0:0"), "three runs died")
    found = await asyncio.to_thread(unfinished.verify)
    assert found.disagreements == ()
    assert "a dead letter: three runs died" in found.notes[1]


def test_the_cure_of_a_lost_job_is_one(unfinished: Any, cli: Cli) -> None:
    unfinished.redis.zrem(f"replicate-batch:queue:1:{unfinished.config.api_host}", "night:0:0")
    assert cli("retry", "night").code == 0
    assert unfinished.verify().agrees


def test_a_cut_enqueue_is_named(unfinished: Any) -> None:
    unfinished.redis.hset(unfinished.key("batch"), "total", 6)
    assert [one.what for one in unfinished.verify().disagreements] == ["Redis counts 6 prompts, prompts.jsonl has 10"]


def test_files_in_the_way_of_a_prompt_are_named(unfinished: Any) -> None:
    (unfinished.folder.path / "one").mkdir()
    assert unfinished.verify().agrees, "an empty folder is in nobody's way"
    (unfinished.folder.path / "one" / "notes.txt").touch()
    assert [str(one) for one in unfinished.verify().disagreements] == [
        "one: its folder has files, but no record. Cure: move it away"
    ]


async def test_while_a_batch_runs_nothing_disagrees(
    config: Config, cli: Cli, simulator: Any, worker_process: Callable[..., Any], tmp_path: Path
) -> None:
    simulator.settings(limiter="off", predict_min=0.01, predict_max=0.5, queue_max=0.1)
    rows = ({"model": "simulator/text", "input": {"prompt": f"{number}"}} for number in range(120))
    (tmp_path / "busy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    await asyncio.to_thread(cli, "enqueue", "busy.jsonl")
    worker_process(creates_per_minute=60_000.0)
    states = set()
    while "finished" not in states:
        found = await asyncio.to_thread(verify, "busy", config)
        assert found.disagreements == ()
        states.add("finished" if found.finished else "running" if found.results else "waiting")
    assert states >= {"running", "finished"}
