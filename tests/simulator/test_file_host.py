from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from simulator.file_host import crc32c
from simulator.process import RunningSimulator

Create = Callable[..., dict[str, Any]]
Download = Callable[..., httpx.Response]


@pytest.fixture
def url(create: Create) -> str:
    output: list[str] = create("simulator/bytes", {"size": 1000})["output"]
    return output[0]


@pytest.fixture
def content(url: str, download: Download) -> bytes:
    return download(url).content


def test_headers_tell_length_and_checksums(url: str, download: Download) -> None:
    answer = download(url)
    md5 = hashlib.md5(answer.content, usedforsecurity=False).digest()
    assert answer.headers["content-length"] == "1000"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["etag"] == f'"{md5.hex()}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers.get_list("x-goog-hash") == [
        f"crc32c={base64.b64encode(crc32c(answer.content).to_bytes(4)).decode()}",
        f"md5={base64.b64encode(md5).decode()}",
    ]


def test_large_files_have_no_crc32c(create: Create, download: Download) -> None:
    answer = download(create("simulator/bytes", {"size": 100_000})["output"][0])
    (only,) = answer.headers.get_list("x-goog-hash")
    assert only.startswith("md5=")


def test_crc32c_of_the_standard_check() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0


def test_the_file_host_is_another_origin_and_notes_tokens(
    plain: RunningSimulator, url: str, download: Download
) -> None:
    assert httpx.URL(url).host == "localhost"
    assert url.startswith(plain.files_url)
    download(url)
    assert plain.ledger()["file_tokens"] == {}
    download(url, headers={"Authorization": "Bearer leaked"})
    assert plain.ledger()["file_tokens"] == {"Bearer leaked": 1}
    assert plain.ledger()["calls"]["output"] == 2


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=990-", 206, slice(990, 1000)),
        ("bytes=990-5000", 206, slice(990, 1000)),
        ("bytes=-10", 206, slice(990, 1000)),
        ("bytes=-5000", 206, slice(0, 1000)),
        ("bytes=1000-", 416, slice(0, 0)),
        ("bytes=-0", 416, slice(0, 0)),
        ("bytes=5-4", 416, slice(0, 0)),
        ("bytes=-", 200, slice(0, 1000)),
        ("bytes=0-1,3-4", 200, slice(0, 1000)),
        ("lines=0-1", 200, slice(0, 1000)),
    ],
)
def test_ranges(url: str, content: bytes, download: Download, asked: str, status: int, part: slice) -> None:
    answer = download(url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (status, content[part])
    if status == 206:
        assert answer.headers["content-range"] == f"bytes {part.start}-{part.stop - 1}/1000"
    if status == 416:
        assert answer.headers["content-range"] == "bytes */1000"


def test_if_range_gives_a_part_only_of_the_same_file(url: str, download: Download) -> None:
    about = download(url).headers
    for condition, status in [(about["etag"], 206), (about["last-modified"], 206), ('"other"', 200)]:
        answer = download(url, headers={"Range": "bytes=10-", "If-Range": condition})
        assert answer.status_code == status


def test_head_has_no_body(url: str) -> None:
    with httpx.Client(trust_env=False) as client:
        answer = client.head(url)
        assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "1000", b"")
        assert client.post(url).status_code == 404


@pytest.mark.parametrize("path", ["/", "/sim/none/0/a.bin", "/v1/account"])
def test_other_paths_are_404(plain: RunningSimulator, download: Download, path: str) -> None:
    assert download(f"{plain.files_url}{path}").status_code == 404


def test_only_files_of_a_succeeded_prediction_are_there(
    plain: RunningSimulator, create: Create, download: Download, url: str
) -> None:
    assert download(url.replace("/0/", "/1/")).status_code == 404
    made = create("simulator/bytes", {"predict_time": 50})
    assert download(f"{plain.files_url}/sim/{made['id']}/0/out.bin").status_code == 404


def test_truncated_body(plain: RunningSimulator, url: str, download: Download) -> None:
    plain.control(truncated_body={"next": 1, "fraction": 0.1})
    with pytest.raises(httpx.RemoteProtocolError, match="received 100 bytes, expected 1000"):
        download(url)
    assert len(download(url).content) == 1000


def test_broken_body(plain: RunningSimulator, create: Create, download: Download) -> None:
    plain.control(broken_body={"next": 1})
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        download(create("simulator/bytes", {"size": 3_000_000})["output"][0])


def test_wrong_length_shows_only_by_checksum(
    plain: RunningSimulator, url: str, content: bytes, download: Download
) -> None:
    plain.control(wrong_length={"next": 1, "fraction": 0.25})
    answer = download(url)
    assert (answer.headers["content-length"], answer.content) == ("250", content[:250])
    assert answer.headers["etag"] == download(url).headers["etag"]


def test_wrong_bytes_show_only_by_checksum(
    plain: RunningSimulator, url: str, content: bytes, download: Download
) -> None:
    plain.control(wrong_bytes={"next": 1})
    answer = download(url)
    assert len(answer.content) == 1000
    assert answer.content != content


def test_a_bare_file_tells_nothing_about_itself(
    plain: RunningSimulator, url: str, content: bytes, download: Download
) -> None:
    plain.control(bare_file={"next": 1})
    answer = download(url)
    assert answer.content == content
    assert answer.headers["transfer-encoding"] == "chunked"
    assert not {"content-length", "etag", "x-goog-hash"} & set(answer.headers)


def test_slow_body_comes_in_pieces(plain: RunningSimulator, url: str, content: bytes) -> None:
    plain.control(slow_body={"next": 1, "seconds": 0.2})
    with httpx.Client(trust_env=False) as client, client.stream("GET", url) as answer:
        pieces = list(answer.iter_raw())
    assert len(pieces) > 1
    assert b"".join(pieces) == content


def test_expired_file(plain: RunningSimulator, url: str, download: Download) -> None:
    plain.control(expired_file={"next": 1})
    assert [download(url).status_code for _ in range(2)] == [404, 200]


def test_a_late_file_is_there_so_long_after_the_end(plain: RunningSimulator, url: str, download: Download) -> None:
    plain.control(late_file={"rate": 1.0, "seconds": 1000})
    assert download(url).status_code == 404
    plain.control(late_file={"rate": 1.0, "seconds": 0})
    assert download(url).status_code == 200


@pytest.mark.parametrize("hops", [1, 3])
def test_redirects(plain: RunningSimulator, url: str, content: bytes, download: Download, hops: int) -> None:
    plain.control(redirect={"rate": 1.0, "hops": hops})
    assert download(url).status_code == 302
    answer = download(url, follow_redirects=True)
    assert answer.content == content
    assert len(answer.history) == hops


def test_a_redirect_to_another_host(plain: RunningSimulator, url: str, download: Download) -> None:
    plain.control(redirect={"next": 1, "to": "http://elsewhere.invalid/x"})
    assert download(url).headers["location"] == "http://elsewhere.invalid/x"


@pytest.mark.parametrize("status", [500, 503])
def test_the_file_host_may_fail(plain: RunningSimulator, url: str, download: Download, status: int) -> None:
    plain.control(error={"next": 1, "kinds": ["output"], "status": status})
    assert [download(url).status_code for _ in range(2)] == [status, 200]


def test_bytes_served_are_counted(plain: RunningSimulator, url: str, download: Download) -> None:
    download(url, headers={"Range": "bytes=0-99"})
    download(url)
    assert plain.ledger()["bytes_served"] == 1100


def test_last_modified_is_when_the_prediction_ended(url: str, download: Download) -> None:
    moment = time.mktime(time.strptime(download(url).headers["last-modified"], "%a, %d %b %Y %H:%M:%S GMT"))
    assert moment > 0
