"""One file from a host that does everything wrong that a host can do; sleeps are counted, not slept."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.config import Config
from jobs.errors import BrokenDownload, FileTooBig, OutputGone, StorageError
from simulator.checksums import crc32c
from worker.download import LONGEST_PAUSE, TRIES, Download, pause
from worker.file_output import FileOutput
from worker.http import files_client
from worker.storage import Storage
from worker.writer import Written

CONTENT = os.urandom(3_000_000)
MD5 = hashlib.md5(CONTENT, usedforsecurity=False)
ETAG = {"ETag": f'"{MD5.hexdigest()}"'}
GOOGLE_MD5 = {"x-goog-hash": f"md5={base64.b64encode(MD5.digest()).decode()}"}
GOOGLE = {
    "x-goog-hash": f"crc32c={base64.b64encode(crc32c(CONTENT).to_bytes(4)).decode()}, {GOOGLE_MD5['x-goog-hash']}"
}
OPAQUE = {"ETag": '"version-1"'}
Fetch = Callable[..., Awaitable[Written]]


@pytest.fixture
def waits() -> list[int]:
    return []


@pytest.fixture
async def fetch(tmp_path: Path, waits: list[int]) -> AsyncIterator[Fetch]:
    async def wait(failures: int) -> None:
        waits.append(failures)

    async with files_client(Config.load()) as client:

        async def run(url: str, max_bytes: int = 10**9) -> Written:
            file = FileOutput(url, client, hosts=("127.0.0.1",))
            async with Storage(fsync=False).writer(tmp_path / ".saving", "output") as writer:
                return await Download(file, writer, max_bytes, asyncio.Semaphore(1)).run(wait)

        yield run


def is_whole(written: Written, content: bytes = CONTENT) -> bool:
    return (
        written.path.read_bytes() == content
        and written.bytes == len(content)
        and written.sha256 == hashlib.sha256(content).hexdigest()
    )


def ranges(host: Any) -> list[str | None]:
    return [headers.get("range") for _, headers in host.requests]


@pytest.mark.parametrize("headers", [{}, ETAG, GOOGLE, ETAG | GOOGLE, OPAQUE, {"ETag": 'W/"weak"'}])
@pytest.mark.parametrize("length", [None, -1])
async def test_a_good_transfer_is_taken_at_once(
    fetch: Fetch, file_host: Any, reply: Any, headers: dict[str, str], length: int | None
) -> None:
    written = await fetch(file_host.serve("/out.png", reply(CONTENT, headers=headers, length=length)))
    assert is_whole(written)
    assert written.path.name == "output.png"
    assert ranges(file_host) == [None]


async def test_an_empty_file_is_a_file(fetch: Fetch, file_host: Any) -> None:
    assert is_whole(await fetch(file_host.serve("/out.txt", b"")), b"")


@pytest.mark.parametrize("headers", [ETAG, OPAQUE])
async def test_a_broken_transfer_is_resumed_where_it_broke(
    fetch: Fetch, file_host: Any, reply: Any, waits: list[int], headers: dict[str, str]
) -> None:
    breaks = [reply(CONTENT, headers=headers, cut=cut) for cut in (1_500_000, 1_000_000, 0)]
    written = await fetch(file_host.serve("/out.png", *breaks, reply(CONTENT, headers=headers)))
    assert is_whole(written)
    assert file_host.requests[1][1]["if-range"] == headers["ETag"]
    assert ranges(file_host) == [None, "bytes=1500000-", "bytes=2500000-", "bytes=2500000-"]
    assert waits == [1, 1, 2]


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
async def test_without_a_strong_etag_it_starts_anew(
    fetch: Fetch, file_host: Any, reply: Any, headers: dict[str, str]
) -> None:
    url = file_host.serve("/out.png", reply(CONTENT, headers=headers, cut=2_000_000), reply(CONTENT, headers=headers))
    assert is_whole(await fetch(url))
    assert ranges(file_host) == [None, None]


async def test_a_host_that_knows_no_ranges_sends_all_again(fetch: Fetch, file_host: Any, reply: Any) -> None:
    whole = reply(CONTENT, headers=ETAG, ranges=False)
    url = file_host.serve("/out.png", reply(CONTENT, headers=ETAG, cut=2_000_000), whole)
    assert is_whole(await fetch(url))
    assert ranges(file_host) == [None, "bytes=2000000-"]


async def test_a_file_that_has_changed_is_not_mixed(fetch: Fetch, file_host: Any, reply: Any) -> None:
    newer = CONTENT[::-1]
    url = file_host.serve(
        "/a.png", reply(CONTENT, headers=OPAQUE, cut=9), reply(newer, headers={"ETag": '"version-2"'})
    )
    assert is_whole(await fetch(url), newer)


@pytest.mark.parametrize(
    "lie",
    [
        {"status": 206, "headers": {"Content-Range": "bytes 0-9/3000000"} | OPAQUE},
        {"status": 206, "headers": {"Content-Range": f"bytes 1000000-2999999/{len(CONTENT)}", "ETag": '"other"'}},
        {"status": 206, "headers": OPAQUE},
        {"status": 416},
        {"status": 206, "headers": {"Content-Range": "bytes 1000000-1000009/1000010"} | OPAQUE},
    ],
)
async def test_a_continuation_that_does_not_fit_starts_anew(
    fetch: Fetch, file_host: Any, reply: Any, lie: dict[str, Any]
) -> None:
    broken = reply(CONTENT, headers=OPAQUE, cut=1_000_000)
    url = file_host.serve("/a.png", broken, reply(b"0123456789", ranges=False, **lie), reply(CONTENT, headers=OPAQUE))
    assert is_whole(await fetch(url))
    assert ranges(file_host) == [None, "bytes=1000000-", None]


@pytest.mark.parametrize("headers", [ETAG, GOOGLE, GOOGLE_MD5, ETAG | GOOGLE])
async def test_wrong_bytes_start_anew_from_zero(
    fetch: Fetch, file_host: Any, reply: Any, headers: dict[str, str]
) -> None:
    wrong = bytearray(CONTENT)
    wrong[1_234_567] ^= 1
    url = file_host.serve("/out.png", reply(bytes(wrong), headers=headers), reply(CONTENT, headers=headers))
    assert is_whole(await fetch(url))
    assert ranges(file_host) == [None, None]


async def test_wrong_bytes_before_a_break_are_found_after_it(fetch: Fetch, file_host: Any, reply: Any) -> None:
    wrong = reply(b"x" + CONTENT[1:], headers=ETAG, cut=1_200_000)
    url = file_host.serve("/out.png", wrong, reply(CONTENT, headers=ETAG), reply(CONTENT, headers=ETAG))
    assert is_whole(await fetch(url))
    assert ranges(file_host) == [None, "bytes=1200000-", None]


async def test_a_short_length_is_found_by_the_md5(fetch: Fetch, file_host: Any, reply: Any) -> None:
    url = file_host.serve("/out.png", reply(CONTENT[:1000], headers=ETAG), reply(CONTENT, headers=ETAG))
    assert is_whole(await fetch(url))


async def test_a_checksum_that_never_fits_is_given_up(
    fetch: Fetch, file_host: Any, reply: Any, waits: list[int], tmp_path: Path
) -> None:
    url = file_host.serve("/out.png", reply(CONTENT[::-1], headers=GOOGLE))
    with pytest.raises(BrokenDownload, match="its crc32c is not") as caught:
        await fetch(url)
    assert caught.value.url == url
    assert waits == list(range(1, TRIES))
    assert [path.name for path in (tmp_path / ".saving").iterdir()] == ["output.part"]


async def test_an_etag_that_only_looks_like_an_md5_costs_one_more_transfer(
    fetch: Fetch, file_host: Any, reply: Any
) -> None:
    """Storage with its own encryption keys has such ETags; the output must not be lost by them."""
    url = file_host.serve("/out.png", reply(CONTENT, headers={"ETag": f'"{"0" * 32}"'}))
    assert is_whole(await fetch(url))
    assert len(file_host.requests) == 2


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_troubles_of_the_host_are_waited_for(
    fetch: Fetch, file_host: Any, reply: Any, waits: list[int], status: int
) -> None:
    troubles = [reply(status=status)] * (TRIES - 1)
    assert is_whole(await fetch(file_host.serve("/out.png", *troubles, reply(CONTENT))))
    assert waits == list(range(1, TRIES))


async def test_a_host_in_lasting_trouble_is_given_up(fetch: Fetch, file_host: Any, reply: Any) -> None:
    with pytest.raises(BrokenDownload, match="503"):
        await fetch(file_host.serve("/out.png", reply(status=503)))
    assert len(file_host.requests) == TRIES


async def test_progress_gives_new_patience(fetch: Fetch, file_host: Any, reply: Any, waits: list[int]) -> None:
    breaks = [reply(CONTENT, headers=ETAG, cut=100_000) for _ in range(3 * TRIES)]
    assert is_whole(await fetch(file_host.serve("/out.png", *breaks, reply(CONTENT, headers=ETAG))))
    assert waits == [1] * 3 * TRIES


async def test_the_same_bytes_again_are_no_progress(fetch: Fetch, file_host: Any, reply: Any) -> None:
    with pytest.raises(BrokenDownload):
        await fetch(file_host.serve("/out.png", reply(CONTENT, cut=100_000)))
    assert len(file_host.requests) == TRIES


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_an_expired_file_is_given_up_at_once(
    fetch: Fetch, file_host: Any, reply: Any, status: int, waits: list[int]
) -> None:
    with pytest.raises(OutputGone):
        await fetch(file_host.serve("/a.png", reply(CONTENT, headers=ETAG, cut=9), reply(status=status)))
    assert waits == [1]


@pytest.mark.parametrize("length", [None, -1])
async def test_a_file_over_the_limit_is_refused_at_once(
    fetch: Fetch, file_host: Any, reply: Any, length: int | None, waits: list[int]
) -> None:
    """By its declared length, or when so many bytes have come."""
    url = file_host.serve("/out.png", reply(CONTENT, length=length))
    assert is_whole(await fetch(url, max_bytes=len(CONTENT)))
    with pytest.raises(FileTooBig, match="2,999,999") as caught:
        await fetch(url, max_bytes=len(CONTENT) - 1)
    assert caught.value.url == url
    assert waits == []


async def test_a_stalled_transfer_is_resumed(
    file_host: Any, reply: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("worker.http.STALL_SECONDS", 0.3)
    async with files_client(Config.load()) as client:
        url = file_host.serve("/a.png", reply(CONTENT, headers=ETAG, cut=9, stall=True), reply(CONTENT, headers=ETAG))
        file = FileOutput(url, client, hosts=("127.0.0.1",))
        async with Storage(fsync=False).writer(tmp_path / ".saving", "output") as writer:
            assert is_whole(await Download(file, writer, 10**9, asyncio.Semaphore(1)).run(lambda _: asyncio.sleep(0)))
    assert ranges(file_host) == [None, "bytes=9-"]


async def test_a_full_disk_ends_it(fetch: Fetch, file_host: Any, tmp_path: Path, waits: list[int]) -> None:
    (tmp_path / ".saving").write_text("in the way")
    with pytest.raises(StorageError):
        await fetch(file_host.serve("/out.png", CONTENT))
    assert waits == []


async def test_no_slot_is_held_while_it_waits(file_host: Any, reply: Any, tmp_path: Path) -> None:
    slots = asyncio.Semaphore(1)

    async def wait(_: int) -> None:
        assert not slots.locked()

    async with files_client(Config.load()) as client:
        file = FileOutput(file_host.serve("/a", reply(status=503), reply(b"x")), client, hosts=("127.0.0.1",))
        async with Storage(fsync=False).writer(tmp_path / ".saving", "output") as writer:
            assert await Download(file, writer, 10, slots).run(wait)


@given(st.integers(1, TRIES), st.floats(0, 1))
def test_pauses_grow_and_stay_bounded(failures: int, dice: float) -> None:
    assert 0.25 <= pause(failures, dice) <= LONGEST_PAUSE
    assert pause(failures, dice) <= pause(failures + 1, dice)
    assert pause(1, 1.0) == 0.5
