"""One file from a host that does everything wrong that a host can do; sleeps are counted, not slept."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import os
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

import google_crc32c
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.batch_folder.folder import Folder
from jobs.config import Config
from jobs.errors import BrokenDownload, FileTooBig, OutputGone, StorageError
from worker.outputs.download import LONGEST_PAUSE, SAME_BYTES, TRIES, Download, DownloadedFile, Timing
from worker.outputs.file_host import files_client
from worker.outputs.file_output import FileOutput
from worker.outputs.file_writer import FileWriter
from worker.outputs.staging import Staging, Storage

CONTENT = os.urandom(3_000_000)
MD5 = hashlib.md5(CONTENT, usedforsecurity=False)
ETAG = {"ETag": f'"{MD5.hexdigest()}"'}
GOOGLE_MD5 = {"x-goog-hash": f"md5={base64.b64encode(MD5.digest()).decode()}"}
CRC32C = google_crc32c.value(CONTENT).to_bytes(4)
GOOGLE = {"x-goog-hash": f"crc32c={base64.b64encode(CRC32C).decode()}, {GOOGLE_MD5['x-goog-hash']}"}
OPAQUE = {"ETag": '"version-1"'}
Fetch = Callable[..., Awaitable[DownloadedFile]]


@cache
def zipped(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=1, mtime=0)


@pytest.fixture
def waits() -> list[int]:
    return []


@pytest.fixture
async def staging(tmp_path: Path) -> AsyncIterator[Staging]:
    async with Storage(fsync=False, most_held=0).staging(Folder(tmp_path, ""), "a") as staging:
        yield staging


@pytest.fixture
async def fetch(staging: Staging, waits: list[int]) -> AsyncIterator[Fetch]:
    async def wait(failures: int) -> None:
        waits.append(failures)

    async with files_client(Config.load()) as client:

        async def run(url: str, max_bytes: int = 10**9) -> DownloadedFile:
            file = FileOutput(url, client, hosts=("127.0.0.1",))
            async with FileWriter(staging, "output") as writer:
                return await Download(file, writer, max_bytes, asyncio.Semaphore(1)).run(wait)

        yield run


def is_whole(fetched: DownloadedFile, content: bytes = CONTENT) -> bool:
    written = fetched.written
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
    assert written.written.path.name == "output.png"
    assert written.checked is (
        True if headers.keys() & {"x-goog-hash"} or headers.get("ETag") == ETAG["ETag"] else None
    )
    assert written.warning is None
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


@pytest.mark.parametrize("headers", [GOOGLE, GOOGLE_MD5])
async def test_the_same_bytes_again_and_again_are_kept_whatever_the_host_says_of_them(
    fetch: Fetch, file_host: Any, reply: Any, waits: list[int], headers: dict[str, str]
) -> None:
    """The prediction is paid for: a host that gives wrong checksums must not make it be paid again."""
    fetched = await fetch(file_host.serve("/out.png", reply(CONTENT[::-1], headers=headers)))
    assert is_whole(fetched, CONTENT[::-1])
    assert (fetched.checked, fetched.warning) == (False, "has another checksum than its host gives")
    assert waits == list(range(1, SAME_BYTES))


async def test_bytes_that_are_wrong_each_time_in_another_way_are_given_up(
    fetch: Fetch, file_host: Any, reply: Any, waits: list[int], staging: Staging
) -> None:
    wrong = [reply(CONTENT[number:] + CONTENT[:number], headers=GOOGLE) for number in range(1, TRIES + 1)]
    url = file_host.serve("/out.png", *wrong)
    with pytest.raises(BrokenDownload, match="its crc32c is not") as caught:
        await fetch(url)
    assert caught.value.url == url
    assert waits == list(range(1, TRIES))
    assert [path.name for path in staging.directory.iterdir()] == ["output.part"]


UNZIPPED = {"x-goog-stored-content-encoding": "gzip", "x-guploader-response-body-transformations": "gunzipped"}


async def test_checksums_of_what_a_store_has_unzipped_are_not_compared(
    fetch: Fetch, file_host: Any, reply: Any
) -> None:
    stored = zipped(CONTENT)
    md5 = hashlib.md5(stored, usedforsecurity=False)
    about = UNZIPPED | {
        "ETag": f'"{md5.hexdigest()}"',
        "x-goog-hash": f"md5={base64.b64encode(md5.digest()).decode()}",
        "x-goog-stored-content-length": str(len(stored)),
    }
    fetched = await fetch(file_host.serve("/out.json", reply(CONTENT, headers=about, length=-1)))
    assert is_whole(fetched)
    assert (fetched.checked, fetched.warning, len(file_host.requests)) == (None, None, 1)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", "deflate", "deflate without a head"])
async def test_what_is_packed_unasked_is_unpacked(fetch: Fetch, file_host: Any, reply: Any, coding: str) -> None:
    content = CONTENT + b"0" * 9_000_000
    bare = zlib.compressobj(wbits=-15)
    packed = {"deflate": zlib.compress(content), "deflate without a head": bare.compress(content) + bare.flush()}
    body = packed.get(coding) or zipped(content[:5000]) + zipped(content[5000:]) + bytes(512)
    fetched = await fetch(
        file_host.serve("/a.txt", reply(body, headers={"Content-Encoding": coding.partition(" ")[0]}))
    )
    assert is_whole(fetched, content)


@pytest.mark.parametrize("coding", ["gzip", "zstd", "utf-8", "aws-chunked", "none"])
async def test_what_only_claims_to_be_packed_is_taken_as_it_is(
    fetch: Fetch, file_host: Any, reply: Any, coding: str
) -> None:
    about = GOOGLE | {"Content-Encoding": coding}
    fetched = await fetch(file_host.serve("/out.png", reply(CONTENT, headers=about)))
    assert is_whole(fetched)
    assert (fetched.checked, len(file_host.requests)) == (True, 1)


@pytest.mark.parametrize("coding", ["br", "gzip, br", "compress"])
async def test_a_coding_that_nobody_asked_for_and_we_do_not_know_is_a_broken_download(
    fetch: Fetch, file_host: Any, reply: Any, coding: str
) -> None:
    """Else packed bytes would be saved under the file's name, and every check would agree."""
    packed = reply(b"\x8b\x02\x80{}\x03", headers={"Content-Encoding": coding})
    assert is_whole(await fetch(file_host.serve("/a.json", packed, b"{}")), b"{}")
    assert [headers["accept-encoding"] for _, headers in file_host.requests] == ["identity"] * 2


@pytest.mark.parametrize("cut", [0.3, 0.999])
async def test_a_packed_transfer_that_ends_early_is_noticed(
    fetch: Fetch, file_host: Any, reply: Any, cut: float
) -> None:
    packed = zipped(CONTENT)
    part = reply(packed[: int(len(packed) * cut)], headers={"Content-Encoding": "gzip"})
    assert is_whole(await fetch(file_host.serve("/a.txt", part, CONTENT)))


@pytest.mark.parametrize(
    ("name", "body", "encoding", "saved", "suffix"),
    [
        ("w.tar.gz", zipped(CONTENT), "gzip", zipped(CONTENT), ".gz"),  # packed once: the file itself
        ("w.tar.gz", zipped(zipped(CONTENT)), "gzip", zipped(CONTENT), ".gz"),
        ("w.tar.gz", bytes(257) + b"ustar" + CONTENT, "identity", bytes(257) + b"ustar" + CONTENT, ".tar"),
        ("w.csv", zipped(b"a,b"), "gzip", b"a,b", ".csv"),
    ],
)
async def test_name_and_bytes_agree(
    fetch: Fetch, file_host: Any, reply: Any, *, name: str, body: bytes, encoding: str, saved: bytes, suffix: str
) -> None:
    fetched = await fetch(file_host.serve(f"/{name}", reply(body, headers={"Content-Encoding": encoding})))
    assert fetched.written.path.suffix == suffix
    assert fetched.written.path.read_bytes() == saved


PAGE = b"<!DOCTYPE html><html><body>Too many visitors"


async def test_a_page_in_place_of_a_picture_is_asked_once_more(fetch: Fetch, file_host: Any, reply: Any) -> None:
    page = reply(PAGE, headers={"Content-Type": "text/html"})
    fetched = await fetch(file_host.serve("/out.png", page, CONTENT))
    assert is_whole(fetched)
    assert (fetched.written.path.name, fetched.warning) == ("output.png", None)


async def test_a_page_that_stays_is_kept_with_a_warning(fetch: Fetch, file_host: Any, reply: Any) -> None:
    fetched = await fetch(file_host.serve("/out.png", reply(PAGE, headers={"Content-Type": "text/html"})))
    assert is_whole(fetched, PAGE)
    assert (fetched.written.path.name, fetched.warning) == ("output.html", "is a .html file")
    assert len(file_host.requests) == 2


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


async def test_a_stalled_transfer_is_resumed(file_host: Any, reply: Any, staging: Staging) -> None:
    async with files_client(Config.load()) as client:
        client.timeout = httpx.Timeout(0.3)
        url = file_host.serve("/a.png", reply(CONTENT, headers=ETAG, cut=9, stall=True), reply(CONTENT, headers=ETAG))
        file = FileOutput(url, client, hosts=("127.0.0.1",))
        async with FileWriter(staging, "output") as writer:
            assert is_whole(await Download(file, writer, 10**9, asyncio.Semaphore(1)).run(lambda _: asyncio.sleep(0)))
    assert ranges(file_host) == [None, "bytes=9-"]


async def test_a_full_disk_ends_it(fetch: Fetch, file_host: Any, tmp_path: Path, waits: list[int]) -> None:
    (tmp_path / ".saving").write_text("in the way")
    with pytest.raises(StorageError):
        await fetch(file_host.serve("/out.png", CONTENT))
    assert waits == []


async def test_no_slot_is_held_while_it_waits(file_host: Any, reply: Any, staging: Staging) -> None:
    slots = asyncio.Semaphore(1)

    async def wait(_: int) -> None:
        assert not slots.locked()

    async with files_client(Config.load()) as client:
        file = FileOutput(file_host.serve("/a", reply(status=503), reply(b"x")), client, hosts=("127.0.0.1",))
        async with FileWriter(staging, "output") as writer:
            assert await Download(file, writer, 10, slots).run(wait)


@given(st.integers(1, TRIES), st.floats(0, 1))
def test_pauses_grow_and_stay_bounded(failures: int, dice: float) -> None:
    timing = Timing(jitter=lambda: dice)
    assert 0.25 <= timing.pause(failures) <= LONGEST_PAUSE
    assert timing.pause(failures) <= timing.pause(failures + 1)


def test_pauses_are_doubled() -> None:
    timing = Timing(jitter=lambda: 1.0)
    assert [timing.pause(failures) for failures in range(1, TRIES)] == [0.5, 1, 2, 4, 8, 16, 30]
