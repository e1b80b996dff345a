from __future__ import annotations

import base64
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import BrokenDownload, FileRefused
from tests.imports import loaded_by
from worker.outputs.file_output import DATA_CHUNK, FileOutput

ROOT = Path(__file__).parents[4]
PNG = "data:image/png;base64,iVBORw0K"


def mock(status: int, content: bytes, **headers: str) -> httpx.AsyncClient:
    answer = httpx.Response(status, stream=httpx.ByteStream(content), headers=headers)
    return httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answer))


async def test_a_data_uri_is_read_in_every_way() -> None:
    content = bytes(range(256)) * 1000
    output = FileOutput("data:image/webp;base64," + base64.b64encode(content).decode())
    assert (output.content_type, output.length, output.name) == ("image/webp", len(content), "output")
    assert await output.aread() == content
    assert output.read() == content
    pieces = [piece async for piece in output]
    assert pieces == list(output)
    assert max(map(len, pieces)) == DATA_CHUNK
    assert str(output) == output.url
    assert len(repr(output)) < 130


@given(st.binary())
def test_any_bytes_can_be_read(content: bytes) -> None:
    assert FileOutput(f"data:;base64,{base64.b64encode(content).decode()}").read() == content


async def test_an_answer_tells_type_and_length() -> None:
    async with mock(200, b"\x89PNG", **{"Content-Type": "image/png", "Content-Length": "4"}) as client:
        output = FileOutput("https://replicate.delivery/out.png", client)
        assert (output.content_type, output.length) == (None, None)
        assert await output.aread() == b"\x89PNG"
        assert (output.content_type, output.length) == ("image/png", 4)
        assert not client.is_closed
    assert repr(output) == "FileOutput('https://replicate.delivery/out.png')"


@pytest.mark.parametrize("status", [206, 416])
async def test_a_part_that_nobody_asked_for_is_not_taken_for_the_file(status: int) -> None:
    async with mock(status, b"part") as client:
        with pytest.raises(BrokenDownload, match=str(status)):
            await FileOutput("https://replicate.delivery/out.png", client).aread()


@pytest.mark.parametrize(
    "url", ["https://evil.example/x", "http://replicate.delivery/x", "data:image/png;base64,broken*", "nonsense", ""]
)
def test_other_hosts_are_refused_unless_named(url: str) -> None:
    with pytest.raises(FileRefused):
        FileOutput(url).read()


async def test_a_named_host_is_allowed() -> None:
    async with mock(200, b"x") as client:
        assert await FileOutput("https://files.example/x", client, hosts=("files.example",)).aread() == b"x"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://replicate.delivery/pbxt/abc/out-0.png", "out-0.png"),
        ("https://replicate.delivery/pbxt/my%20file.tar.gz?sig=a/b.exe#c/d", "my-file.tar.gz"),
        ("https://replicate.delivery/a/..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("https://replicate.delivery/a/..", "output"),
        ("https://replicate.delivery/.hidden", "hidden"),
        ("https://replicate.delivery/%00%C3%A9.png", "png"),
        ("https://replicate.delivery/a%5C..%5Cb.png", "a-..-b.png"),
        ("https://replicate.delivery/" + "x" * 300 + ".png", "x" * 124 + ".png"),
        ("https://replicate.delivery/", "output"),
        ("https://replicate.delivery", "output"),
        ("https://[", "output"),
        (PNG, "output"),
    ],
)
def test_the_name_is_never_a_path(url: str, name: str) -> None:
    assert FileOutput(url).name == name


@given(st.text())
def test_any_url_has_a_safe_name(text: str) -> None:
    name = FileOutput(f"https://replicate.delivery/{text}").name
    assert name
    assert not name.startswith(".")
    assert name.isascii()
    assert "/" not in name


def test_the_module_is_imported_without_effect() -> None:
    assert not loaded_by("from worker.outputs.file_output import FileOutput") & {"arq", "redis", "aiofiles"}
