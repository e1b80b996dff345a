"""What each model makes: real files, of every shape, the same for the same input."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import wave
import zipfile
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from simulator.models import file_contents
from simulator.models.file_contents import random_bytes, random_bytes_md5
from simulator.models.outputs import FAILURES
from simulator.models.registry import MODELS

Create = Callable[..., dict[str, Any]]
Download = Callable[..., httpx.Response]


@pytest.mark.parametrize(("form", "kind"), [("png", "png"), ("webp", "webp"), ("jpg", "jpeg")])
def test_pictures(create: Create, download: Download, form: str, kind: str) -> None:
    values = {"prompt": "a lamp", "output_format": form, "num_outputs": 2, "width": 64, "height": 32, "seed": 3}
    urls = create("simulator/image", values)["output"]
    answers = [download(url) for url in urls]
    assert [url.rpartition("/")[2] for url in urls] == [f"out-0.{form}", f"out-1.{form}"]
    assert answers[0].content != answers[1].content
    for answer in answers:
        assert answer.headers["content-type"] == f"image/{kind}"
        with Image.open(io.BytesIO(answer.content)) as image:
            assert (image.format, image.size) == (kind.upper(), (64, 32))


def test_same_input_and_seed_same_bytes(create: Create, download: Download) -> None:
    def drawn(seed: int) -> bytes:
        values = {"prompt": "a", "seed": seed, "width": 32, "height": 32}
        body: bytes = download(create("simulator/image", values)["output"][0]).content
        return body

    assert drawn(1) == drawn(1) != drawn(2)


def test_how_long_it_takes_does_not_change_the_bytes(create: Create, download: Download) -> None:
    urls = [create("simulator/bytes", {"queue_time": 0, "predict_time": time})["output"][0] for time in (0, 0.0)]
    assert download(urls[0]).content == download(urls[1]).content


def test_sound(create: Create, download: Download) -> None:
    url = create("simulator/audio", {"prompt": "rain", "duration": 0.5})["output"]
    with wave.open(io.BytesIO(download(url).content)) as sound:
        assert sound.getnframes() / sound.getframerate() == 0.5


def test_text_and_tokens(create: Create) -> None:
    tokens = create("simulator/tokens", {"prompt": "sea", "count": 7})["output"]
    assert len(tokens) == 7
    assert all(isinstance(token, str) for token in tokens)
    assert create("simulator/text", {"prompt": "sea"})["output"].startswith("sea:")
    assert create("simulator/text", {"text": "https: is how it begins"})["output"] == "https: is how it begins"


def test_json(create: Create) -> None:
    assert create("simulator/json", {"prompt": "four"})["output"]["length"] == 4
    numbers = create("simulator/json", {"prompt": "x", "kind": "numbers"})["output"]
    assert {len(row) for row in numbers} == {8}
    assert all(isinstance(number, float) for row in numbers for number in row)


def test_nested_dict(create: Create, download: Download) -> None:
    output = create("simulator/nested", {"prompt": "x"})["output"]
    assert set(output) == {"zip", "video"}
    with zipfile.ZipFile(io.BytesIO(download(output["zip"]).content)) as packed:
        assert packed.namelist() == ["frame.png"]
    assert download(output["video"]).content[4:8] == b"ftyp" or output["video"].endswith(".gif")


def test_nested_lists_may_repeat_a_name(create: Create, download: Download) -> None:
    dicts = create("simulator/nested", {"prompt": "x", "shape": "dicts"})["output"]
    assert [each["file"].rpartition("/")[2] for each in dicts] == ["current.png"] * 2
    assert download(dicts[0]["file"]).content != download(dicts[1]["file"]).content
    lists = create("simulator/nested", {"prompt": "x", "shape": "lists"})["output"]
    assert [len(row) for row in lists] == [2, 1]


def small_picture() -> bytes:
    return file_contents.encode_image(file_contents.draw_picture("seed", "", (6, 4)), "png")


def test_upscale_reads_data_uris_uploads_and_outputs(api: httpx.Client, create: Create, download: Download) -> None:
    upload = api.post("/v1/files", files={"content": ("a.png", small_picture(), "image/png")}).json()["urls"]["get"]
    picture = {"prompt": "", "width": 8, "height": 8}
    inputs = {
        f"data:image/png;base64,{base64.b64encode(small_picture()).decode()}": (12, 8),
        upload: (12, 8),
        create("simulator/image", picture)["output"][0]: (16, 16),
    }
    for uri, size in inputs.items():
        made = create("simulator/upscale", {"image": uri})
        with Image.open(io.BytesIO(download(made["output"]).content)) as image:
            assert image.size == size


@pytest.mark.parametrize("uri", ["data:,plain", "data:;base64,x", "https://example.com/a.png"])
def test_upscale_fails_without_a_picture(create: Create, uri: str) -> None:
    made = create("simulator/upscale", {"image": uri})
    assert (made["status"], made["error"]) == ("failed", "cannot identify image file")


def test_collage_puts_pictures_side_by_side(create: Create, download: Download) -> None:
    picture = f"data:image/png;base64,{base64.b64encode(small_picture()).decode()}"
    for count, size in ((3, (18, 4)), (0, (1, 1))):
        made = create("simulator/collage", {"images": [picture] * count})
        with Image.open(io.BytesIO(download(made["output"]).content)) as image:
            assert image.size == size


@pytest.mark.parametrize(("name", "text"), FAILURES.items())
def test_a_failure_can_be_chosen(create: Create, name: str, text: str | None) -> None:
    made = create("simulator/flaky", {"error": name})
    assert (made["status"], made["error"], made["output"]) == ("failed", text, None)


def test_it_fails_the_first_times_for_an_equal_input(create: Create) -> None:
    values = {"error": "anything else", "times": 2, "prompt": "again"}
    ends = [create("simulator/flaky", values) for _ in range(4)]
    assert [each["status"] for each in ends] == ["failed", "failed", "succeeded", "succeeded"]
    assert ends[0]["error"] == "anything else"
    assert create("simulator/flaky", values | {"prompt": "other"})["status"] == "failed"


@pytest.mark.parametrize("status", ["aborted", "canceled"])
def test_it_ends_otherwise(create: Create, status: str) -> None:
    made = create("simulator/flaky", {"status": status})
    assert (made["status"], made["error"]) == (status, None)


def test_sensitive_content_is_refused(create: Create) -> None:
    assert "(E005)" in create("simulator/image", {"prompt": "something NSFW"})["error"]


def test_bytes_of_a_given_size(create: Create, download: Download) -> None:
    urls = create("simulator/bytes", {"size": 70_000, "count": 3, "extension": "mp3"})["output"]
    files = [download(url) for url in urls]
    assert {len(file.content) for file in files} == {70_000}
    assert len({file.content for file in files}) == 3
    assert files[0].headers["content-type"] == "audio/mpeg"
    assert download(create("simulator/bytes", {"size": 10})["output"][0]).headers["content-length"] == "10"


@given(st.integers(0, 200_000), st.text(max_size=5))
def test_noise_has_its_size_and_md5(size: int, seed: str) -> None:
    made = random_bytes(seed, size)
    assert len(made) == size
    assert random_bytes_md5(seed, size) == hashlib.md5(made, usedforsecurity=False).digest()


def test_echo_gives_back_any_value(create: Create, download: Download) -> None:
    value: dict[str, Any] = {
        "a": [1, None, {"$output": "x y.txt", "size": 3}],
        "b": {"$output": "x.bin"},
        "c": "data:,hi",
    }
    output = create("simulator/echo", {"output": value})["output"]
    assert output["a"][:2] == [1, None]
    assert output["c"] == "data:,hi"
    assert len(download(output["a"][2]).content) == 3
    assert len(download(output["b"]).content) == 1000
    assert create("simulator/echo", {})["output"] is None


def test_every_model_describes_itself() -> None:
    for model in MODELS.values():
        schema = model.openapi_schema()
        assert json.loads(json.dumps(schema)) == schema
        assert model.shown_schema or "seed" in schema["components"]["schemas"]["Input"]["properties"]


def test_videos_are_the_same_every_time() -> None:
    frames = file_contents.draw_frames("seed", "hello", (32, 32))
    assert file_contents.encode_gif(frames, 100).startswith(b"GIF89a")
    if not file_contents.can_encode_mp4():
        pytest.skip("this Pillow writes no AVIF")
    made = file_contents.encode_mp4(frames, 100)
    assert made == file_contents.encode_mp4(file_contents.draw_frames("seed", "hello", (32, 32)), 100)
    assert made[4:12] == b"ftypisom"
    assert b"vide" in made
    assert b"pict" not in made[made.index(b"moov") : made.index(b"mdat")]
