"""FileOutput used alone, as the documentation of Replicate's client shows it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiofiles
import pytest

from jobs.errors import BrokenDownload, OutputGone
from worker.outputs.file_output import FileOutput

CONTENT = bytes(range(256)) * 2000
LOCAL = ("127.0.0.1",)


async def test_chunks_go_to_a_file_with_aiofiles(file_host: Any, tmp_path: Path) -> None:
    output = FileOutput(file_host.serve("/out.png", CONTENT), hosts=LOCAL)
    async with aiofiles.open(tmp_path / "output.png", "wb") as file:
        async for chunk in output:
            await file.write(chunk)
    assert (tmp_path / "output.png").read_bytes() == CONTENT
    assert output.length == len(CONTENT)


async def test_it_is_read_at_once_inside_an_event_loop_and_outside_of_one(file_host: Any, tmp_path: Path) -> None:
    output = FileOutput(file_host.serve("/out.png", CONTENT), hosts=LOCAL)
    assert await output.aread() == CONTENT
    assert await asyncio.to_thread(output.read) == CONTENT
    with (tmp_path / "output.png").open("wb") as file:
        await asyncio.to_thread(lambda: [file.write(chunk) for chunk in output])
    assert (tmp_path / "output.png").read_bytes() == CONTENT
    assert output.length == len(CONTENT)


async def test_inside_a_running_loop_it_is_read_by_another() -> None:
    """The file host of these tests runs in this loop, hence a host that does not exist."""
    with pytest.raises(BrokenDownload):
        FileOutput("https://replicate.delivery.invalid/x", hosts=("replicate.delivery.invalid",)).read()


async def test_a_reading_that_is_given_up_leaves_nothing_open(file_host: Any) -> None:
    output = FileOutput(file_host.serve("/out.png", CONTENT), hosts=LOCAL)

    def first_chunk() -> bytes:
        chunks = iter(output)
        return next(chunks)

    assert CONTENT.startswith(await asyncio.to_thread(first_chunk))
    chunks = aiter(output)
    assert CONTENT.startswith(await anext(chunks))
    await chunks.aclose()


async def test_a_short_transfer_is_an_error_and_not_a_short_file(file_host: Any, reply: Any) -> None:
    output = FileOutput(file_host.serve("/out.png", reply(CONTENT, cut=1000)), hosts=LOCAL)
    with pytest.raises(BrokenDownload):
        await output.aread()
    with pytest.raises(BrokenDownload):
        await asyncio.to_thread(output.read)


async def test_an_expired_file_is_gone(file_host: Any) -> None:
    with pytest.raises(OutputGone):
        await FileOutput(f"http://{file_host.address}/expired.png", hosts=LOCAL).aread()
