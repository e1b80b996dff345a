"""The output folder goes away, comes back, is another batch's or takes nothing, while predictions are to be saved."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.batch_folder.folder import Folder
from jobs.errors import LostFolder
from jobs.state.ledger import Entry
from jobs.state.waits import Waits
from jobs.wire import Batch, Failure, Prompt, Shard
from worker.context import Context, Work
from worker.prompt import save
from worker.prompt.predict import predict
from worker.shard import finish, run
from worker.shard.run import run_shard
from worker.timing import Timing

INPUT = {"prompt": "cat", "width": 16, "height": 16, "output_format": "png"}
CAT, DOG = (Prompt(index, name, "simulator/image", INPUT) for index, name in enumerate(("cat", "dog")))
SHARD = Shard("night", "b1", 0, 0, (CAT, DOG))
ROOT = Path(__file__).parents[4]


@pytest.fixture
def timing() -> Timing:
    return Timing(jitter=lambda: 0.01, folder_retry=0.1)


@pytest.fixture
async def worker(
    simulator: Any, open_worker: Callable[..., Awaitable[Context]], open_batch: Callable[..., Awaitable[Batch]]
) -> Context:
    simulator.settings(limiter="off", predict_min=0.3, predict_max=0.4, loose=0.0)
    worker = await open_worker()
    await open_batch(worker, CAT, DOG)
    return worker


def folder(worker: Context) -> Folder:
    return Folder(worker.config.output_dir, "night")


async def told(worker: Context, batch: str = "night") -> str:
    """What `status` says that the batch waits for."""
    return "; ".join(wait.sentence({}) for wait in await Waits(worker.redis).of(batch))


def tries(caplog: pytest.LogCaptureFixture) -> int:
    """How often the disk refused a prompt."""
    return caplog.text.count("cannot be saved, retrying")


async def test_a_folder_that_goes_away_and_comes_back_costs_nothing(
    worker: Context, simulator: Any, eventually: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """While its predictions run. Nothing is counted before its record is on disk."""
    here, away = folder(worker).path, folder(worker).path.with_name("away")
    running = asyncio.create_task(run_shard(worker, SHARD))
    await eventually(lambda: simulator.ledger()["created"] == 2)
    here.rename(away)
    assert "the folder of 'night' is gone: put " in await eventually(lambda: told(worker))
    await eventually(lambda: tries(caplog) > 2)
    assert (await worker.batches.get("night")).settled == 0
    assert not here.exists(), "nobody creates it again"
    away.rename(here)
    await running
    batch = await worker.batches.get("night")
    assert (batch.succeeded, batch.finished_at is not None, simulator.ledger()["created"]) == (2, True, 2)
    assert {path.name for path in here.iterdir()} >= {"cat", "dog", "results.jsonl", "index.html"}
    assert await worker.account.trouble() is None, "other batches go on meanwhile"


async def test_another_batchs_folder_receives_nothing_and_settles_nothing(
    worker: Context,
    simulator: Any,
    make_folder: Callable[..., Folder],
    eventually: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    here, away = folder(worker).path, folder(worker).path.with_name("away")
    running = asyncio.create_task(run_shard(worker, SHARD))
    await eventually(lambda: simulator.ledger()["created"] == 2)
    here.rename(away)
    theirs = make_folder(CAT, DOG, batch_id="b2")
    record = {"id": "cat", "index": 0, "status": "succeeded", "model": "m", "input": {}}
    theirs.prompt("cat").mkdir()
    (theirs.prompt("cat") / "prediction.json").write_text(json.dumps(record))
    assert "is another batch's folder now" in await eventually(lambda: told(worker))
    await eventually(lambda: tries(caplog) > 2)
    assert (await worker.batches.get("night")).settled == 0
    assert sorted(path.name for path in here.iterdir()) == ["batch.json", "cat", "prompts.jsonl"]
    here.rename(here.with_name("theirs"))
    away.rename(here)
    await running
    assert (await worker.batches.get("night")).succeeded == 2
    assert simulator.ledger()["created"] == 2


@pytest.mark.parametrize("foreign", [False, True])
async def test_results_are_written_into_the_batchs_own_folder_only(
    worker: Context,
    make_folder: Callable[..., Folder],
    eventually: Callable[..., Any],
    *,
    foreign: bool,
) -> None:
    """All is settled; the last thing to do is to write results and gallery, and the folder is not there."""
    for prompt in (CAT, DOG):
        await predict(Work(worker, SHARD, prompt))
    here, away = folder(worker).path, folder(worker).path.with_name("away")
    here.rename(away)
    if foreign:
        make_folder(CAT, DOG, batch_id="b2")
    finishing = asyncio.create_task(finish.finish_batch(worker, SHARD))
    sentence = "is another batch's folder now" if foreign else "the folder of 'night' is gone"
    assert sentence in await eventually(lambda: told(worker))
    assert names(here) == (["batch.json", "prompts.jsonl"] if foreign else [])
    assert (await worker.batches.get("night")).finished_at is None
    if foreign:
        here.rename(here.with_name("theirs"))
    away.rename(here)
    await finishing
    assert len(folder(worker).results.read_text().splitlines()) == 2


async def test_a_failures_record_goes_into_no_other_batchs_folder(
    worker: Context, make_folder: Callable[..., Folder], eventually: Callable[..., Any]
) -> None:
    work = Work(worker, SHARD, CAT)
    here, away = folder(worker).path, folder(worker).path.with_name("away")
    here.rename(away)
    make_folder(CAT, DOG, batch_id="b2")
    committing = asyncio.create_task(save.commit_failure(work, Entry(), Failure(kind="internal", message="no")))
    assert "is another batch's folder now" in await eventually(lambda: told(worker))
    assert names(here) == ["batch.json", "prompts.jsonl"]
    here.rename(here.with_name("theirs"))
    away.rename(here)
    assert (await committing).status == "failed"
    assert names(here.with_name("theirs")) == ["batch.json", "prompts.jsonl"]


def names(path: Path) -> list[str]:
    return sorted(path.name for path in path.iterdir()) if path.exists() else []


async def test_nothing_is_created_while_a_folder_in_use_is_away(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    """Although nothing is to be saved: the predictions take long."""
    simulator.settings(predict_min=30.0, predict_max=30.0)
    running = asyncio.create_task(run_shard(worker, SHARD))
    await eventually(lambda: simulator.ledger()["created"] == 2)
    folder(worker).path.rename(folder(worker).path.with_name("away"))
    assert "is gone" in await eventually(lambda: told(worker))
    running.cancel()
    await asyncio.wait([running])


async def test_a_worker_that_has_seen_the_folder_waits_for_it(worker: Context, eventually: Callable[..., Any]) -> None:
    """One that never saw it stops; this one takes up the shard again after the folder went away."""
    worker.folders.seen.add("b1")
    here, away = folder(worker).path, folder(worker).path.with_name("away")
    here.rename(away)
    running = asyncio.create_task(run_shard(worker, SHARD))
    assert "is gone" in await eventually(lambda: told(worker))
    away.rename(here)
    await running
    assert (await worker.batches.get("night")).succeeded == 2


async def test_an_unreadable_identity_is_waited_for(worker: Context, eventually: Callable[..., Any]) -> None:
    text = folder(worker).manifest.read_text()
    folder(worker).manifest.write_text("")
    running = asyncio.create_task(run_shard(worker, SHARD))
    assert "cannot be read as a batch's" in await eventually(lambda: told(worker))
    folder(worker).manifest.write_text(text)
    await running
    assert (await worker.batches.get("night")).succeeded == 2


async def test_while_the_disk_refuses_one_prompt_tries_for_all(
    worker: Context, simulator: Any, eventually: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try is a download: a thousand of them every few seconds would help nobody."""
    obstacle = folder(worker).path / ".saving"
    original, trying, most = save.fetch, 0, list[int]()

    async def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal trying
        trying += 1
        try:
            most.append(trying)
            await asyncio.sleep(0.02)
            return await original(*arguments, **options)
        finally:
            trying -= 1

    monkeypatch.setattr(save, "fetch", counted)
    works = [Work(worker, SHARD, Prompt(n, f"p{n}", CAT.model, {**INPUT, "seed": n})) for n in range(12)]
    obstacle.write_text("in the way")
    simulator.settings(predict_min=3.0, predict_max=3.0)
    predicting = [asyncio.create_task(predict(work)) for work in works]
    await eventually(lambda: simulator.ledger()["created"] == 12)
    await eventually(lambda: len(most) > 12)
    most.clear()
    await eventually(lambda: len(most) > 5)
    assert max(most) == 1
    assert await eventually(lambda: told(worker))
    obstacle.unlink()
    await asyncio.gather(*predicting)
    assert simulator.ledger()["created"] == 12
    assert (worker.folders.disk_trouble(), worker.folders.own_troubles()) == (None, {})


async def test_what_killed_runs_left_is_swept_by_who_has_their_lease(worker: Context) -> None:
    for name in ("cat.00ff", "owl.00ff"):
        folder(worker).saving(*name.split(".")).mkdir(parents=True)
        (folder(worker).path / ".saving" / name / "output.part").write_bytes(bytes(1000))
    await run.load_works(worker, SHARD)
    assert [path.name for path in (folder(worker).path / ".saving").iterdir()] == ["owl.00ff"], "not our shard's"
    folder(worker).prompt("owl").mkdir()
    await run_shard(worker, SHARD)
    assert not (folder(worker).path / ".saving").exists(), "whoever saved owl is done with it"


async def test_a_finished_batch_hurts_nobody_who_saves_a_new_prompt_of_it(worker: Context) -> None:
    live = folder(worker).saving("new", "00ff")
    live.mkdir(parents=True)
    await run_shard(worker, SHARD)
    assert (await worker.batches.get("night")).finished_at
    assert live.exists()


async def test_who_is_not_sure_of_its_lease_commits_nothing(
    worker: Context, simulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stalled with a whole download in its hand; by its own clock the lease has run out."""
    answers = [True, False, True]  # it creates, would commit, and looks again
    monkeypatch.setattr(worker.leases, "is_valid", lambda name: answers.pop(0) if name == "night:0" else None)
    await predict(Work(worker, SHARD, CAT))
    assert answers == []
    assert (await worker.batches.get("night")).succeeded == 1
    assert simulator.ledger()["created"] == 1


async def test_a_record_is_never_taken_from_a_foreign_folder(worker: Context) -> None:
    await predict(Work(worker, SHARD, CAT))
    await worker.redis.flushdb()
    with pytest.raises(LostFolder):
        save.read_record(Work(worker, Shard("night", "b2", 0, 0, (CAT,)), CAT))


async def test_an_entry_whose_folder_is_away_is_not_created_anew(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    """A worker comes up with a prediction to re-attach to, and the folder is not there yet."""
    made = await worker.replicate.create(CAT.model, CAT.input)
    work = Work(worker, SHARD, CAT)
    await work.ledger.record(await work.ledger.intend(Entry()), made.id)
    here, away = folder(worker).path, folder(worker).path.with_name("away")
    here.rename(away)
    predicting = asyncio.create_task(predict(work))
    assert "is gone" in await eventually(lambda: told(worker))
    away.rename(here)
    await predicting
    assert simulator.ledger()["created"] == 1


CHILD = """
import asyncio, json, os, resource, sys
from pathlib import Path
from jobs.errors import StorageError
from jobs.batch_folder.folder import Folder
from jobs.batch_folder.gallery import write_gallery
from jobs.batch_folder.results import write_results
from worker.outputs.file_writer import FileWriter
from worker.outputs.staging import Storage

STORAGE = Storage()

def record(index, name):
    row = {"id": name, "index": index, "status": "succeeded", "model": "m", "input": {}}
    return json.dumps(row).encode()

async def save(folder):
    async with STORAGE.staging(folder, "a", "b1") as staging:
        async with FileWriter(staging, "output") as writer:
            for _ in range(40):
                await writer.write(bytes(65536))
            await writer.finish(".bin")
        return await staging.commit(record(0, "a"))

def obstruct(case, home):
    obstacle = home / "obstacle"
    if case == "space":  # enough for a half of the file, and for nothing when that is gone
        obstacle.write_bytes(bytes(os.statvfs(home).f_bavail * os.statvfs(home).f_frsize - 1_500_000))
    elif case == "inodes":
        obstacle.mkdir()
        for number in range(os.statvfs(home).f_favail):
            (obstacle / str(number)).touch()
    elif case == "read-only":
        assert os.system(f"mount -o remount,ro {home}") == 0
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 10**9))

def fill(home):
    with (home / "obstacle").open("ab", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return

def relieve(case, home):
    if case == "space":
        (home / "obstacle").unlink()
    elif case == "inodes":
        [path.unlink() for path in (home / "obstacle").iterdir()]
    elif case == "read-only":
        assert os.system(f"mount -o remount,rw {home}") == 0
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**9, 10**9))

async def go_through(case, home):
    home.mkdir()
    if case != "file size":
        assert os.system(f"mount -t tmpfs -o size=5m,nr_inodes=60 none {home}") == 0
    folder = Folder(home.parent, home.name)
    folder.manifest.write_text(json.dumps({"batch": home.name, "id": "b1", "realm": "r", "created_at": 1.0}))
    folder.prompts.write_text("".join(json.dumps({"id": id, "model": "m", "input": {}}) + chr(10) for id in "ab"))
    async with STORAGE.staging(folder, "b", "b1") as staging:
        assert await staging.commit(record(1, "b"))
    obstruct(case, home)
    told = []
    try:
        await save(folder)
    except StorageError as error:
        told.append(str(error))
    left = [path.name for path in home.rglob("*a*") if path.name.startswith("a")]
    if case == "space":
        fill(home)
    for write in (write_results, write_gallery):
        try:
            write(folder, fsync=True)
        except StorageError as error:
            told.append(str(error))
    left += [path.name for path in home.glob("*.part")]
    relieve(case, home)
    saved = await save(folder)
    results = write_results(folder, fsync=False)
    print(json.dumps([case, told, left, saved, results.prompts, write_gallery(folder, fsync=False).exists()]))

for case in sys.argv[2:]:
    asyncio.run(go_through(case, Path(sys.argv[1], case.replace(" ", "-"))))
"""
SENTENCES = {
    "space": "the disk is full",
    "inodes": "the disk is full",
    "read-only": "Read-only file system",
    "file size": "is larger than a file may be here",
}


def test_a_real_disk_in_trouble_refuses_and_then_takes_all(tmp_path: Path) -> None:
    """Small file systems in a namespace of its own, and RLIMIT_FSIZE, which is all where none can be had."""
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    mounting = ["unshare", "-Urm"]
    try:
        subprocess.run([*mounting, "mount", "-t", "tmpfs", "none", tmp_path], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        cases = ["file size"]
    else:
        command, cases = [*mounting, *command], list(SENTENCES)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, *cases], capture_output=True, encoding="utf-8", timeout=60, check=False, env=env)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == cases, done.stderr
    for case, told, left, *afterwards in rows:
        assert [SENTENCES[case] in reason for reason in told] == [True] * (1 if case == "file size" else 3), told
        assert left == [], "neither a half output nor half results"
        assert afterwards == [True, 2, True]
