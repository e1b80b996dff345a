"""What each model makes of its input, and when it fails. The input is checked and has its defaults."""

from __future__ import annotations

import mimetypes
from random import Random
from typing import Any

from PIL import Image

from simulator.models import file_contents
from simulator.models.file_contents import random_bytes, random_bytes_md5
from simulator.models.model import Ending, File, Read

FAILURES: dict[str, str | None] = {
    "PA": "Prediction interrupted; please retry (code: PA)",
    "E8765": "Director: unexpected error handling prediction (E8765)",
    "E9243": "Director: unexpected error handling prediction (E9243)",
    "E6716": "Director: unexpected error handling prediction (E6716)",
    "E9828": "Director: unexpected error handling prediction (E9828)",
    "unknown": "Unknown error handling prediction",
    "internal": "Internal error. Please try again",
    "E003": "Service is currently unavailable due to high demand. Please try again later. (E003)",
    "E004": "Service is temporarily unavailable. Please try again later. (E004)",
    "null": None,
    "empty": "",
    "CUDA": "CUDA out of memory. Tried to allocate 2.00 GiB",
    "E005": "The input or output was flagged as sensitive. Please try again with different inputs. (E005)",
    "nsfw": "NSFW content detected. Try running it again, or try a different prompt.",
    "E001": "The provider has no credit left. (E001)",
    "E002": "The provider's API key is invalid. (E002)",
    "model": "shapes (1,77,768) and (1,64,768) cannot be broadcast together",
}
"""Texts of failed predictions, by a short name that `simulator/flaky` takes as `error`."""

_WORDS = (
    "the",
    "lamp",
    "harbour",
    "of",
    "quiet",
    "glass",
    "moves",
    "under",
    "seven",
    "small",
    "rivers",
    "and",
    "nobody",
    "counts",
    "them",
    "before",
    "dawn",
)


def _picture(values: dict[str, Any], seed: str, name: str, form: str) -> File:
    size = (values.get("width", 256), values.get("height", 256))

    def draw(_read: Read) -> bytes:
        return file_contents.encode_image(file_contents.draw_picture(seed, values.get("prompt", ""), size), form)

    return File(name, "image/jpeg" if form == "jpg" else f"image/{form}", draw)


def pictures(values: dict[str, Any], seed: str) -> Any:
    """A list of pictures."""
    form = values["output_format"]
    return [_picture(values, f"{seed}:{i}", f"out-{i}.{form}", form) for i in range(values["num_outputs"])]


def refusal(values: dict[str, Any], _earlier: int, _read: Read) -> Ending | None:
    """E005 for a prompt with "nsfw"."""
    return Ending("failed", FAILURES["E005"]) if "nsfw" in values["prompt"].lower() else None


def _words(prompt: str, seed: str, count: int) -> list[str]:
    random = Random(seed)
    return [f"{prompt[:60]}:", *(f" {random.choice(_WORDS)}" for _ in range(count - 1))]


def tokens(values: dict[str, Any], seed: str) -> Any:
    """A list of strings."""
    return _words(values["prompt"], seed, values["count"])


def text(values: dict[str, Any], seed: str) -> Any:
    """One string."""
    return values["text"] if "text" in values else "".join(_words(values["prompt"], seed, 24))


def audio(values: dict[str, Any], seed: str) -> Any:
    """One WAV file."""
    return File("audio.wav", "audio/wav", lambda _read: file_contents.synthesize_melody(seed, values["duration"]))


def measures(values: dict[str, Any], seed: str) -> Any:
    """A dict, or lists of numbers."""
    random = Random(seed)
    if values["kind"] == "numbers":
        return [[round(random.uniform(-1, 1), 6) for _ in range(8)] for _ in range(2)]
    return {
        "label": random.choice(_WORDS),
        "score": round(random.random(), 4),
        "length": len(values["prompt"]),
        "tags": [],
    }


def nested(values: dict[str, Any], seed: str) -> Any:
    """Files inside a dict, dicts in a list, or lists in a list."""
    if values["shape"] == "dicts":
        return [{"file": _picture(values, f"{seed}:{i}", "current.png", "png")} for i in range(2)]
    if values["shape"] == "lists":
        return [[_picture(values, f"{seed}:{i}{j}", f"{i}-{j}.png", "png") for j in range(2 - i)] for i in range(2)]
    prompt = values["prompt"]
    still = _picture(values, seed, "frame.png", "png")
    return {
        "zip": File(
            "frames.zip", "application/zip", lambda read: file_contents.zip_files({still.name: still.draw(read)})
        ),
        "video": _video(prompt, seed),
    }


def _video(prompt: str, seed: str) -> File:
    def images() -> list[Image.Image]:
        return file_contents.draw_frames(seed, prompt, (192, 192))

    if file_contents.can_encode_mp4():
        return File("video.mp4", "video/mp4", lambda _read: file_contents.encode_mp4(images(), 250))
    return File("video.gif", "image/gif", lambda _read: file_contents.encode_gif(images(), 250))


def film(values: dict[str, Any], seed: str) -> Any:
    """One video; how long it is, only its metrics say."""
    return _video(values["prompt"], seed)


def posters(values: dict[str, Any], seed: str) -> Any:
    """A list of pictures."""
    return [_picture(values, f"{seed}:{i}", f"out-{i}.png", "png") for i in range(values["number_of_images"])]


def upscale(values: dict[str, Any], _seed: str) -> Any:
    """The given picture, larger."""
    return File(
        "output.png",
        "image/png",
        lambda read: file_contents.enlarge_image(read(values["image"]) or b"", values["scale"]),
    )


def collage(values: dict[str, Any], _seed: str) -> Any:
    """The given pictures in a row."""
    return File(
        "output.png",
        "image/png",
        lambda read: file_contents.join_images([read(uri) or b"" for uri in values["images"]]),
    )


def unreadable(values: dict[str, Any], _earlier: int, read: Read) -> Ending | None:
    """A failure when a given URI is no picture."""
    uris = [values["image"]] if "image" in values else values["images"]
    if all(data and file_contents.is_image(data) for data in map(read, uris)):
        return None
    return Ending("failed", "cannot identify image file")


def one_picture(values: dict[str, Any], seed: str) -> Any:
    """A list of one picture."""
    return [_picture(values, seed, "out-0.png", "png")]


def recovered(values: dict[str, Any], seed: str) -> Any:
    """One string, for when it works at last."""
    return "".join(_words(values["prompt"], seed, 8))


def chosen_failure(values: dict[str, Any], earlier: int, _read: Read) -> Ending | None:
    """The failure asked for, always or for the first `times` equal inputs."""
    times = values.get("times")
    if times is not None and earlier >= times:
        return None
    error = FAILURES.get(values["error"], values["error"])
    return Ending(values["status"], error if values["status"] == "failed" else None)


def blobs(values: dict[str, Any], seed: str) -> Any:
    """A list of files of a given size."""
    name = f"out.{values['extension']}"
    return [_blob(name, f"{seed}:{i}", values["size"]) for i in range(values["count"])]


def _blob(name: str, seed: str, size: int) -> File:
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return File(name, kind, lambda _read: random_bytes(seed, size), lambda: random_bytes_md5(seed, size))


def echo(values: dict[str, Any], seed: str) -> Any:
    """The value asked for, with a file wherever it says `{"$output": name}`."""
    return _with_files(values.get("output"), seed)


def _with_files(value: Any, seed: str) -> Any:
    if isinstance(value, dict) and "$output" in value:
        return _blob(value["$output"], seed, value.get("size", 1000))
    if isinstance(value, dict):
        return {key: _with_files(each, f"{seed}/{key}") for key, each in value.items()}
    if isinstance(value, list):
        return [_with_files(each, f"{seed}/{i}") for i, each in enumerate(value)]
    return value
