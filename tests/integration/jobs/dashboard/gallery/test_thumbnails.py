from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from jobs.dashboard.gallery.thumbnails import Thumbnails

PNG = {"path": "cat/output.png", "url": "u", "bytes": 9, "sha256": "0"}


CAT = {"id": "cat", "input": {"prompt": "a cat"}}


def draw(path: Path, size: tuple[int, int] = (900, 600)) -> None:
    Image.effect_noise(size, 90).convert("RGB").save(path)


async def test_thumbnails_are_made_once_and_lie_beside_the_batch(night: Any, browser: Any) -> None:
    night.write_rows(CAT)
    draw(night.write_record(0, "cat", files=[PNG]) / "output.png")
    found = await browser.get("/batches/night/thumbnails/cat/output.png?v=1")
    assert (found.status_code, found.headers["content-type"]) == (200, "image/webp")
    assert "immutable" in found.headers["cache-control"]
    (kept,) = (night.folder.path / ".thumbnails" / "cat").iterdir()
    with Image.open(kept) as picture:
        assert max(picture.size) == 512
    kept.write_bytes(b"not made again")
    assert (await browser.get("/batches/night/thumbnails/cat/output.png")).content == b"not made again"


def encoded(media_type: str, size: tuple[int, int] = (64, 64)) -> bytes:
    Image.new("1", size).save(file := BytesIO(), media_type)
    return file.getvalue()


@pytest.mark.parametrize(
    "encode",
    [
        lambda: b"no picture",
        lambda: encoded("PNG")[:45],
        lambda: encoded("PNG", (16_000, 16_000)),
        lambda: encoded("PPM"),
        lambda: encoded("PCX"),
    ],
    ids=["text", "truncated", "bomb", "PPM", "PCX"],
)
async def test_what_is_no_picture_has_no_thumbnail(night: Any, browser: Any, encode: Callable[[], bytes]) -> None:
    night.write_rows(CAT)
    (night.write_record(0, "cat", files=[PNG]) / "output.png").write_bytes(encode())
    assert (await browser.get("/batches/night/thumbnails/cat/output.png")).status_code == 404


async def test_a_video_has_its_first_frame_for_a_poster(night: Any, browser: Any) -> None:
    night.write_rows(CAT)
    path = night.write_record(0, "cat", files=[{**PNG, "path": "cat/output.mp4"}]) / "output.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height = 640, 480
        for _ in range(3):
            frame = av.VideoFrame.from_image(Image.new("RGB", (640, 480), "red"))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert 'poster="/batches/night/thumbnails/cat/output.mp4' in (await browser.get("/batches/night")).text
    found = await browser.get("/batches/night/thumbnails/cat/output.mp4")
    with Image.open(BytesIO(found.content)) as picture:
        assert picture.size == (512, 384)


async def test_a_folder_that_takes_no_thumbnail_has_them_elsewhere(night: Any, browser: Any) -> None:
    night.write_rows(CAT)
    path = night.write_record(0, "cat", files=[PNG]) / "output.png"
    draw(path)
    (night.folder.path / ".thumbnails").write_text("in the way, as a disk that is full or may only be read")
    found = [await browser.get("/batches/night/thumbnails/cat/output.png") for _ in range(2)]
    assert [(one.status_code, one.headers["content-type"]) for one in found] == [(200, "image/webp")] * 2
    draw(path)
    again = await browser.get("/batches/night/thumbnails/cat/output.png")
    assert again.content != found[0].content, "the picture is another one"


async def test_a_picture_from_the_future_is_made_once(night: Any, browser: Any) -> None:
    night.write_rows(CAT)
    path = night.write_record(0, "cat", files=[PNG]) / "output.png"
    draw(path)
    os.utime(path, (4e9, 4e9))
    assert (await browser.get("/batches/night/thumbnails/cat/output.png")).status_code == 200
    (kept,) = (night.folder.path / ".thumbnails" / "cat").iterdir()
    assert kept.stat().st_mtime == 4e9
    before = kept.stat().st_ino
    assert (await browser.get("/batches/night/thumbnails/cat/output.png")).status_code == 200
    assert kept.stat().st_ino == before


async def test_thumbnails_that_are_made_at_once_share_one_temporary_directory(tmp_path: Path) -> None:
    draw(picture := tmp_path / "output.png", (64, 64))
    (tmp_path / "taken").touch()
    thumbnails = Thumbnails()
    made = await asyncio.gather(
        *(thumbnails.path(picture, tmp_path / "taken" / f"{number}.webp") for number in range(8))
    )
    assert len({path.parent for path in made if path}) == 1
    assert None not in made
    thumbnails.close()
    assert not any(path.parent.exists() for path in made if path)
