from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import FileRefused
from worker.outputs.allowed_urls import check_output_url, is_output, looks_like_file

REPLICATE = ("replicate.delivery", "*.replicate.delivery")


@pytest.mark.parametrize(
    "url",
    [
        "https://replicate.delivery/pbxt/a/out.png",
        "https://replicate.delivery",
        "https://replicate.delivery:443/x",
        "HTTPS://Replicate.Delivery/x",
        "https://pbxt.replicate.delivery/x?sig=a%2Fb#top",
        "https://a.b-c.replicate.delivery/x",
        "https://replicate.delivery/my picture 1.png",  # its host forgot to encode the blanks
    ],
)
def test_replicates_hosts_are_output_hosts(url: str) -> None:
    check_output_url(url, REPLICATE)
    assert is_output(url, REPLICATE)


@pytest.mark.parametrize(
    "url",
    [
        "http://replicate.delivery/x",
        "ftp://replicate.delivery/x",
        "file:///etc/passwd",
        "//replicate.delivery/x",
        "replicate.delivery/x",
        "https:",
        "https://",
        "https:///replicate.delivery/x",
        "https:replicate.delivery/x",
        "https://evil.example/x",
        "https://evil.example/replicate.delivery",
        "https://evil.example#@replicate.delivery/",
        "https://evil.example?.replicate.delivery/",
        "https://notreplicate.delivery/x",
        "https://replicate.delivery.evil.example/x",
        "https://.replicate.delivery/x",
        "https://a..replicate.delivery/x",
        "https://replicate.delivery./x",
        "https://user@replicate.delivery/x",
        "https://user:password@replicate.delivery/x",
        "https://replicate.delivery@evil.example/x",
        "https://replicate.delivery\\@evil.example/x",
        "https://evil.example\\.replicate.delivery/x",
        "https://evil.example%2f.replicate.delivery/x",
        "https://replicate.delivery:8443/x",
        "https://replicate.delivery:80/x",
        "https://replicate.delivery:x/",
        "https://[::1]/x",
        "https://[replicate.delivery]/x",
        "https://127.0.0.1/x",
        "https://2130706433/x",
        "https://repl\u0456cate.delivery/x",
        "https://replicate.delivery/x is your image",
        "https://replicate.delivery/x\n",
        "https://replicate.delivery/\x00",
        " https://replicate.delivery/x",
        "https://replicate.delivery/\ud800",
        "https://replicate.delivery/" + "x" * 70_000,
        "https is a protocol",
    ],
)
def test_nothing_else_is(url: str) -> None:
    with pytest.raises(FileRefused) as refused:
        check_output_url(url, REPLICATE)
    assert refused.value.url == url
    assert len(str(refused.value)) < 400
    assert not is_output(url, REPLICATE)


@pytest.mark.parametrize(
    ("url", "hosts", "allowed"),
    [
        ("http://127.0.0.1:8000/x", ("127.0.0.1",), True),
        ("http://127.0.0.5/x", ("127.0.0.5",), True),
        ("http://localhost:5555/x", ("localhost",), True),
        ("https://localhost:5555/x", ("localhost",), True),
        ("http://[::1]:5555/x", ("::1",), True),
        ("http://[::1]:5555/x", ("[::1]",), True),
        ("http://localhost/x", REPLICATE, False),
        ("http://localhost/x", ("127.0.0.1",), False),
        ("http://127.1/x", ("127.1",), False),
        ("http://files.localhost/x", ("*.localhost",), False),
        ("http://192.168.0.1/x", ("192.168.0.1",), False),
        ("https://192.168.0.1/x", ("192.168.0.1",), True),
        ("ftp://localhost/x", ("localhost",), False),
        ("https://example.com/x", ("EXAMPLE.com",), True),
        ("https://example.com/x", ("*.example.com",), False),
        ("https://example.com/x", ("*",), False),
        ("https://example.com/x", (), False),
    ],
)
def test_plain_http_and_ports_are_for_listed_loopback_hosts(url: str, hosts: tuple[str, ...], *, allowed: bool) -> None:
    assert is_output(url, hosts) is allowed


@pytest.mark.parametrize(
    ("value", "is_file"),
    [
        ("data:image/png;base64,iVBORw0K", True),
        ("data:image/png;base64,broken*", False),
        ("data: is a plural, strictly", False),
        ("", False),
        (None, False),
        (3, False),
        ({"url": "https://replicate.delivery/x"}, False),
        (["https://replicate.delivery/x"], False),
    ],
)
def test_of_other_values_only_data_uris_are_files(value: Any, *, is_file: bool) -> None:
    assert is_output(value, REPLICATE) is is_file


@given(st.text(), st.sampled_from(["https://", "https://replicate.delivery", "https://x.replicate.delivery/", ""]))
def test_what_is_fetched_lies_on_a_listed_host_for_other_parsers_too(text: str, start: str) -> None:
    url = start + text
    if is_output(url, REPLICATE) and not url.startswith("data:"):
        host = (urlsplit(url).hostname or "").encode("idna").decode()
        assert host == "replicate.delivery" or host.endswith(".replicate.delivery")


def test_blanks_are_encoded_before_a_file_is_asked_for() -> None:
    url = check_output_url("https://replicate.delivery/my picture 1.png", REPLICATE)
    assert url.raw_path == b"/my%20picture%201.png"


@pytest.mark.parametrize(
    "text",
    [
        "https://storage.googleapis.com/bucket/0a1b2c",
        "https://bucket.s3.eu-west-1.amazonaws.com/key",
        "https://elsewhere.example/x/out.png",
        "https://elsewhere.example/OUT.MP4?download=1",
        "http://elsewhere.example/out.safetensors",
        "https://elsewhere.example/x?X-Amz-Signature=00&X-Amz-Expires=3600",
        "https://replicate.delivery/x\\out.png",
        "https://elsewhere.example/my picture.png",
        "https://replicate.delivery:8443/x/out.webp",
    ],
)
def test_a_file_that_is_not_fetched_looks_like_one(text: str) -> None:
    assert looks_like_file(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://en.wikipedia.org/wiki/Cat",
        "https://example.com/",
        "https://example.com",
        "https://example.com/page.html",
        "https://storage.googleapis.com/x is where it lies",
        "see https://elsewhere.example/out.png",
        "https://elsewhere.example/out.png\nis yours",
        "ftp://elsewhere.example/out.png",
        "https:",
        "out.png",
        "",
        "https://elsewhere.example/" + "x" * 10_000 + ".png",
    ],
)
def test_other_texts_do_not(text: str) -> None:
    assert not looks_like_file(text)
