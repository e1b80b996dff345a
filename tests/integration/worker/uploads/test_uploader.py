from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import Blocked, InputFileError, ReplicateError, Unanswered
from jobs.input_files.copies import copied_path
from jobs.input_files.reference import references
from jobs.state.ledger import Overtaken
from jobs.state.uploads import Upload, upload_ids
from jobs.wire import Batch
from tests.integration.worker.prompt.works import filed_work
from worker.context import Context, Work
from worker.limits.circuit_breaker import MustWait
from worker.timing import Timing
from worker.uploads import uploader
from worker.uploads.sender import is_hopeless

DAY = 86_400.0


@pytest.fixture
def timing() -> Timing:
    return Timing(jitter=lambda: 0.0, upload_patience=0.0)


@pytest.fixture
async def worker(
    simulator: Any, open_worker: Callable[..., Awaitable[Context]], open_batch: Callable[..., Awaitable[Batch]]
) -> Context:
    simulator.settings(limiter="off")
    worker = await open_worker()
    await open_batch(worker, total=9)
    return worker


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    path = tmp_path / "a cat.txt"
    path.write_bytes(b"a picture of a cat")
    return path


def a_file(beside: Path, name: str, content: bytes) -> Path:
    path = beside.with_name(name)
    path.write_bytes(content)
    return path


async def ensure(work: Work) -> dict[str, Upload]:
    return await work.worker.uploads.ensure(work.shard, work.prompt, work.folder.path, work.order)


def uploads(simulator: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = simulator.ledger()["uploads"]
    return found


def calls(simulator: Any, kind: str = "upload") -> int:
    return int(simulator.ledger(summary=True)["calls"].get(kind, 0))


async def test_a_content_is_uploaded_once_for_all_prompts(worker: Context, simulator: Any, cat: Path) -> None:
    twin, dog = a_file(cat, "twin.txt", b"a picture of a cat"), a_file(cat, "dog.txt", b"a dog")
    works = [filed_work(worker, 0, cat), filed_work(worker, 1, twin), filed_work(worker, 2, cat, dog, cat)]
    found = await asyncio.gather(*map(ensure, works), *map(ensure, works))
    found.append(await ensure(works[2]))
    assert [len(each) for each in found] == [1, 1, 2, 1, 1, 2, 2]
    assert {upload.id for each in found for upload in each.values()} == {row["id"] for row in uploads(simulator)}
    assert sorted(row["size"] for row in uploads(simulator)) == [5, 18]
    batch = await worker.batches.get("night")
    assert (batch.predictions, batch.cost, calls(simulator, "create")) == (0, 0, 0)
    assert await ensure(filed_work(worker, 3)) == {}


async def test_two_workers_upload_a_content_once(
    worker: Context, open_worker: Callable[..., Awaitable[Context]], simulator: Any, cat: Path
) -> None:
    other = await open_worker()
    simulator.control(delay={"rate": 1.0, "kinds": ["upload"], "seconds": 0.3})
    first, second = await asyncio.gather(ensure(filed_work(worker, 0, cat)), ensure(filed_work(other, 1, cat)))
    assert first == second
    assert len(uploads(simulator)) == calls(simulator) == 1


async def test_a_prompt_that_is_cancelled_leaves_the_upload_to_the_others(
    worker: Context, simulator: Any, cat: Path, eventually: Callable[..., Any]
) -> None:
    simulator.control(delay={"rate": 1.0, "kinds": ["upload"], "seconds": 0.3})
    gone, stays = (asyncio.create_task(ensure(filed_work(worker, index, cat))) for index in range(2))
    await eventually(lambda: calls(simulator))
    gone.cancel()
    assert await stays
    assert (gone.cancelled(), calls(simulator)) == (True, 1)


async def test_an_upload_that_nobody_waits_for_is_given_up(
    worker: Context, simulator: Any, cat: Path, eventually: Callable[..., Any]
) -> None:
    simulator.control(hang={"next": 1, "kinds": ["upload"], "seconds": 600})
    gone = asyncio.create_task(ensure(filed_work(worker, 0, cat)))
    await eventually(lambda: calls(simulator))
    gone.cancel()
    assert await ensure(filed_work(worker, 0, cat))
    assert len(uploads(simulator)) == 1


async def test_a_lost_answer_is_found_in_the_list(worker: Context, simulator: Any, cat: Path) -> None:
    simulator.control(lost_answer={"next": 1, "kinds": ["upload"], "how": "reset"})
    (upload,) = (await ensure(filed_work(worker, 0, cat))).values()
    assert [row["id"] for row in uploads(simulator)] == [upload.id]
    work = filed_work(worker, 0, cat)
    (known,) = (await worker.uploads.records(work.shard).read(list(await ensure(work)))).values()
    assert known.lost == ()


@pytest.mark.parametrize(
    "faults",
    [
        {"error": {"next": 2, "kinds": ["upload"], "status": 502}},
        {"cut_upload": {"next": 1}},
        {"throttle": {"next": 1, "kinds": ["upload"], "seconds": 1}},
        {"unauthorized": {"next": 1, "kinds": ["upload"]}},
        {"error": {"next": 1, "kinds": ["upload"], "status": 403, "form": "html"}},
        {"lost_answer": {"next": 1, "kinds": ["upload"]}, "error": {"next": 2, "kinds": ["files"], "status": 500}},
    ],
)
async def test_what_comes_between_is_waited_out(
    worker: Context, simulator: Any, cat: Path, faults: dict[str, Any]
) -> None:
    simulator.control(**faults)
    (upload,) = (await ensure(filed_work(worker, 0, cat))).values()
    assert [row["id"] for row in uploads(simulator)] == [upload.id]


@pytest.mark.parametrize(("faults", "tries"), [({"status": 502}, 6), ({"status": 400, "form": "problem"}, 1)])
async def test_a_file_that_is_never_taken_is_an_error(
    worker: Context, simulator: Any, cat: Path, faults: dict[str, Any], tries: int
) -> None:
    simulator.control(error={"rate": 1.0, "kinds": ["upload"], **faults})
    with pytest.raises(InputFileError, match=r"a cat\.txt .* be uploaded"):
        await ensure(filed_work(worker, 0, cat))
    assert calls(simulator) == tries


@pytest.mark.parametrize("timing", [Timing(jitter=lambda: 0.0)])
async def test_uploads_wait_while_none_of_them_is_answered(worker: Context, simulator: Any, cat: Path) -> None:
    """The rest of the API answers meanwhile."""
    simulator.control(error={"next": 9, "kinds": ["upload"], "status": 502})
    assert await ensure(filed_work(worker, 0, cat))
    assert calls(simulator) == 10


@pytest.mark.parametrize(
    ("error", "unanswered", "others_pass", "is_late", "expected"),
    [
        (Unanswered("502"), 5, True, True, False),
        (Unanswered("502"), 6, False, False, False),
        (Unanswered("502"), 6, True, False, True),
        (Unanswered("502"), 60, False, True, True),
        (Blocked("403"), 5, False, False, False),
        (Blocked("403"), 6, False, False, True),
    ],
)
def test_when_an_upload_is_given_up(
    error: ReplicateError, unanswered: int, *, others_pass: bool, is_late: bool, expected: bool
) -> None:
    assert is_hopeless(error, unanswered, others_pass=others_pass, is_late=is_late) is expected


async def test_a_file_that_a_firewall_blocks_is_an_error_and_holds_nobody_back(
    worker: Context, simulator: Any, cat: Path
) -> None:
    simulator.control(error={"rate": 1.0, "kinds": ["upload"], "status": 403, "form": "html"})
    with pytest.raises(InputFileError, match=r"a cat\.txt could not be uploaded in 6 tries: .* \(403\)"):
        await ensure(filed_work(worker, 0, cat))
    assert calls(simulator) == 6
    async with asyncio.timeout(5), worker.gate.request("read"):
        await worker.replicate.account()


async def test_a_file_that_is_too_large_is_an_error(worker: Context, simulator: Any, cat: Path) -> None:
    simulator.settings(max_upload=3)
    with pytest.raises(InputFileError, match="less than 100MB"):
        await ensure(filed_work(worker, 0, cat))


async def test_what_was_stored_with_other_bytes_is_deleted(worker: Context, simulator: Any, cat: Path) -> None:
    simulator.control(wrong_upload={"next": 1})
    (upload,) = (await ensure(filed_work(worker, 0, cat))).values()
    assert [(row["id"] == upload.id, row["deleted_at"] is None) for row in uploads(simulator)] == [
        (False, False),
        (True, True),
    ]


async def test_an_answer_without_checksum_and_times_will_do(worker: Context, simulator: Any, cat: Path) -> None:
    simulator.control(bare_upload={"next": 1})
    (upload,) = (await ensure(filed_work(worker, 0, cat))).values()
    assert upload.expires_at - upload.renew_at == uploader.RENEW_BEFORE
    simulator.advance(DAY - 2 * uploader.RENEW_BEFORE)
    await worker.replicate.account()
    assert list((await ensure(filed_work(worker, 0, cat))).values()) == [upload]


async def test_it_is_uploaded_again_an_hour_before_it_expires(worker: Context, simulator: Any, cat: Path) -> None:
    work = filed_work(worker, 0, cat)
    before = await ensure(work)
    worker.uploads.check(before)
    simulator.advance(DAY - uploader.RENEW_BEFORE + 5)
    await worker.replicate.account()
    with pytest.raises(MustWait):
        worker.uploads.check(before)
    (old,), (new,) = before.values(), (await ensure(work)).values()
    assert old.id != new.id
    assert list((await upload_ids(worker.redis, "night")).values()) == [{old.id, new.id}]


async def test_one_that_lives_shortly_is_used_all_the_same(worker: Context, simulator: Any, cat: Path) -> None:
    simulator.control(short_upload={"next": 1, "seconds": 600})
    work = filed_work(worker, 0, cat)
    assert await ensure(work) == await ensure(work)
    assert calls(simulator) == 1


async def test_nothing_is_kept_for_a_batch_that_ended_meanwhile(
    worker: Context, simulator: Any, cat: Path, eventually: Callable[..., Any]
) -> None:
    """It was canceled, and its prompts settled by another worker."""
    simulator.control(delay={"rate": 1.0, "kinds": ["upload"], "seconds": 0.3})
    late = asyncio.create_task(ensure(filed_work(worker, 0, cat)))
    await eventually(lambda: calls(simulator))
    for index in range(9):
        await worker.batches.settle("night", index, "canceled")
    assert await worker.batches.finish("night")
    with pytest.raises(Overtaken):
        await late
    assert [row["deleted_at"] is None for row in uploads(simulator)] == [False]
    with pytest.raises(Overtaken):
        await ensure(filed_work(worker, 0, cat))
    assert calls(simulator) == 1


def changed(path: Path) -> None:
    path.write_bytes(b"a picture of a dog")


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"!")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (Path.unlink, "is not there for worker .* --copy-inputs"),
        (changed, "has changed since it was enqueued"),
        (longer, "has changed since it was enqueued"),
        (a_folder, "is no regular file any more"),
        (a_pipe, "is no regular file any more"),
        (a_loop, "cannot be read by worker .*symbolic links"),
    ],
)
async def test_a_file_must_be_as_it_was_enqueued(
    worker: Context, simulator: Any, cat: Path, spoil: Callable[[Path], None], says: str
) -> None:
    work = filed_work(worker, 0, cat)
    copy = copied_path(work.folder.path, next(references(work.prompt.input)))
    spoil(cat)
    with pytest.raises(InputFileError, match=says):
        await ensure(work)
    copy.parent.mkdir()
    copy.write_bytes(b"a damaged copy!!!!")
    with pytest.raises(InputFileError, match=says):
        await ensure(work)
    assert calls(simulator) == 0
    copy.write_bytes(b"a picture of a cat")
    assert await ensure(work)


async def test_a_name_that_would_steer_a_terminal_is_quoted(
    worker: Context, cat: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    odd = a_file(cat, "a\nline\x1b[2J.txt", b"a line")
    work = filed_work(worker, 0, odd)
    assert await ensure(work)
    assert r"↑ night/'a\nline\x1b[2J.txt' ● 0.0 MB" in caplog.text
    odd.write_bytes(b"another line")
    work = filed_work(worker, 1, odd)
    odd.unlink()
    with pytest.raises(InputFileError, match=r"/a\\nline\\x1b\[2J\.txt' is not there"):
        await ensure(work)


async def test_a_damaged_copy_is_passed_over(worker: Context, cat: Path) -> None:
    work = filed_work(worker, 0, cat)
    copy = copied_path(work.folder.path, next(references(work.prompt.input)))
    copy.parent.mkdir()
    copy.write_bytes(b"")
    assert await ensure(work)


async def test_what_is_uploaded_is_used_also_when_the_file_has_changed(worker: Context, cat: Path) -> None:
    work = filed_work(worker, 0, cat)
    before = await ensure(work)
    changed(cat)
    assert await ensure(work) == before
