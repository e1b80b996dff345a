from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import KEEP_FINISHED, Batches
from jobs.state.uploads import BatchUploads, FileUploads, Upload, upload_ids
from jobs.wire import Batch

CAT, DOG = "ca" * 32, "d0" * 32
FIRST = Upload("f1", "https://api/v1/files/f1?signature=x", 1_800_086_400, 1_800_082_800)
SECOND = replace(FIRST, id="f2", url="https://api/v1/files/f2")


@pytest.fixture
async def batches(redis: Redis) -> Batches:
    batches = Batches(redis)
    await batches.open(Batch("cats", "b1", "api", 1.0, 1, 0, 1.0))
    return batches


@pytest.fixture
def uploads(redis: Redis, batches: Batches) -> BatchUploads:
    assert batches
    return BatchUploads(redis, "cats", "b1")


async def recorded(uploads: BatchUploads, upload: Upload = FIRST, sha256: str = CAT, *, doubled: bool = False) -> str:
    nonce = await uploads.begin(sha256)
    assert nonce
    assert await uploads.record(sha256, nonce, upload, doubled=doubled)
    return nonce


async def finish(batches: Batches) -> None:
    await batches.settle("cats", 0, "succeeded")
    assert await batches.finish("cats")


async def retired(uploads: BatchUploads) -> list[FileUploads]:
    return [found async for found in uploads.retire()]


async def test_an_upload_is_used_once_it_is_recorded(uploads: BatchUploads, batches: Batches) -> None:
    assert await uploads.read([CAT]) == {}
    nonce = await uploads.begin(CAT)
    assert nonce
    assert (await uploads.read([CAT]))[CAT].current is None
    assert await uploads.record(CAT, nonce, FIRST, doubled=False)
    found = await uploads.read([DOG, CAT])
    assert found == {CAT: FileUploads(CAT, FIRST, (), (), ())}
    assert (await batches.get("cats")).uploads == nonce


async def test_a_repeated_call_changes_nothing(uploads: BatchUploads) -> None:
    nonce = await recorded(uploads)
    later = await recorded(uploads, SECOND)
    before = await uploads.read([CAT])
    assert await uploads.record(CAT, nonce, FIRST, doubled=False)
    assert await uploads.record(CAT, later, SECOND, doubled=False)
    assert await uploads.read([CAT]) == before


async def test_a_later_upload_replaces_one_whose_id_stays_known(uploads: BatchUploads) -> None:
    await recorded(uploads)
    await recorded(uploads, SECOND)
    found = (await uploads.read([CAT]))[CAT]
    assert found == FileUploads(CAT, SECOND, ("f1",), (), ())
    assert found.ids == {"f1", "f2"}
    assert await upload_ids(uploads.redis, "cats") == {CAT: {"f1", "f2"}}


async def test_an_upload_that_is_gone_is_dropped_once(uploads: BatchUploads) -> None:
    await recorded(uploads)
    await recorded(uploads, SECOND)
    await uploads.drop(CAT, FIRST)
    assert (await uploads.read([CAT]))[CAT].current == SECOND
    await uploads.drop(CAT, SECOND)
    assert (await uploads.read([CAT]))[CAT] == FileUploads(CAT, None, ("f1", "f2"), (), ())


async def test_one_that_nobody_begun_is_refused(uploads: BatchUploads) -> None:
    assert not await uploads.record(CAT, "another", FIRST, doubled=False)
    assert (await uploads.read([CAT])) == {}


async def test_nothing_is_uploaded_for_a_batch_that_is_over(
    uploads: BatchUploads, batches: Batches, redis: Redis
) -> None:
    late = await uploads.begin(CAT)
    assert late
    await finish(batches)
    assert await uploads.begin(DOG) is None
    assert not await uploads.record(CAT, late, FIRST, doubled=False)
    assert await BatchUploads(redis, "cats", "another").begin(CAT) is None
    await batches.delete("cats")
    assert await uploads.begin(CAT) is None
    assert not await redis.exists(keys.uploads("cats"))


async def test_nothing_is_retired_before_the_end(uploads: BatchUploads, batches: Batches) -> None:
    await recorded(uploads)
    assert await retired(uploads) == []
    await finish(batches)
    assert await retired(uploads) == [FileUploads(CAT, None, ("f1",), (), ())]


async def test_what_is_retired_is_retired_again_until_it_is_forgotten(uploads: BatchUploads, batches: Batches) -> None:
    """The worker that retired it may have been killed."""
    await recorded(uploads)
    lost = await uploads.begin(CAT)
    doubled = await recorded(uploads, SECOND, DOG, doubled=True)
    await finish(batches)
    first = await retired(uploads)
    assert {one.sha256: one.lost for one in first} == {CAT: (lost,), DOG: (doubled,)}
    assert await retired(uploads) == first
    for one in first:
        await uploads.forget(one)
    found = await uploads.read([CAT, DOG])
    assert found == {CAT: FileUploads(CAT, None, (), ("f1",), ()), DOG: FileUploads(DOG, None, (), ("f2",), ())}
    assert found[CAT].ids == {"f1"}, "an orphan may still name it"


async def test_a_retry_meanwhile_keeps_what_it_uploads(uploads: BatchUploads, batches: Batches) -> None:
    last, late = await recorded(uploads), await uploads.begin(CAT)
    await finish(batches)
    (before,) = await retired(uploads)
    await batches.reopen("cats", 1)
    again = await recorded(uploads, SECOND)
    assert late
    assert not await uploads.record(CAT, late, replace(FIRST, id="f3"), doubled=False), "it may just be deleted"
    await uploads.forget(before)
    await uploads.close(last)
    assert (await uploads.read([CAT]))[CAT] == FileUploads(CAT, SECOND, (), ("f1",), ())
    assert (await batches.get("cats")).uploads == again
    await uploads.close(again)
    assert (await batches.get("cats")).uploads is None


async def test_many_are_retired_in_pieces(uploads: BatchUploads, batches: Batches) -> None:
    contents = [f"{number:064x}" for number in range(250)]
    await asyncio.gather(*(recorded(uploads, replace(FIRST, id=f"f{one}"), one) for one in contents))
    await finish(batches)
    assert sorted(one.earlier for one in await retired(uploads)) == sorted((f"f{one}",) for one in contents)


async def test_they_expire_with_the_batch(uploads: BatchUploads, batches: Batches, redis: Redis) -> None:
    await recorded(uploads)
    await finish(batches)
    assert KEEP_FINISHED - 60 < await redis.ttl(keys.uploads("cats")) <= KEEP_FINISHED
    await batches.reopen("cats", 1)
    assert await redis.ttl(keys.uploads("cats")) == -1
