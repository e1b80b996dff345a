"""The models there are. All take `seed`, `predict_time` and `queue_time` besides the inputs listed here.

simulator/image      prompt, num_outputs 1-4, output_format png|webp|jpg, width, height -> list of URLs;
                     a prompt with "nsfw" is refused (E005)
simulator/tokens     prompt, count -> list of strings that grows while it runs
simulator/text       prompt, text -> one string (`text` verbatim, if given)
simulator/audio      prompt, duration -> one URL (WAV)
simulator/json       prompt, kind object|numbers -> a dict, or a list of lists of numbers
simulator/nested     prompt, shape dict|dicts|lists -> {"zip": URL, "video": URL}, [{"file": URL}], [[URL, URL], [URL]]
simulator/upscale    image (URI), scale 2-4 -> one URL
simulator/slow       prompt -> list of one URL, after a log-normal time
simulator/flaky      prompt, error (a key of FAILURES, or any text), times (null: always),
                     status failed|canceled|aborted -> one string
simulator/bytes      size, count, extension -> list of URLs of that many bytes
simulator/echo       output -> that very value, where {"$file": "name.ext", "size"?: n} becomes a URL
simulator/community  like image, but not official: it needs its version
deployments/simulator/studio   runs simulator/image
"""

from __future__ import annotations

import mimetypes
from random import Random
from typing import Any

from simulator import drawing
from simulator.models import Ending, File, Model, Read

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

_PROMPT = {"type": "string", "required": True}
_PICTURE_INPUTS: dict[str, dict[str, Any]] = {
    "prompt": _PROMPT,
    "num_outputs": {"type": "integer", "default": 1, "minimum": 1, "maximum": 4},
    "output_format": {"type": "string", "default": "webp", "enum": ["png", "webp", "jpg"]},
    "width": {"type": "integer", "default": 384, "minimum": 8, "maximum": 4096},
    "height": {"type": "integer", "default": 384, "minimum": 8, "maximum": 4096},
}
_URI = {"type": "string", "format": "uri"}
_URIS = {"type": "array", "items": _URI}
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
        return drawing.encoded(drawing.picture(seed, values.get("prompt", ""), size), form)

    return File(name, "image/jpeg" if form == "jpg" else f"image/{form}", draw)


def _pictures(values: dict[str, Any], seed: str) -> Any:
    form = values["output_format"]
    return [_picture(values, f"{seed}:{i}", f"out-{i}.{form}", form) for i in range(values["num_outputs"])]


def _refusal(values: dict[str, Any], _earlier: int, _read: Read) -> Ending | None:
    return Ending("failed", FAILURES["E005"]) if "nsfw" in values["prompt"].lower() else None


def _words(prompt: str, seed: str, count: int) -> list[str]:
    dice = Random(seed)
    return [f"{prompt[:60]}:", *(f" {dice.choice(_WORDS)}" for _ in range(count - 1))]


def _tokens(values: dict[str, Any], seed: str) -> Any:
    return _words(values["prompt"], seed, values["count"])


def _text(values: dict[str, Any], seed: str) -> Any:
    return values["text"] if "text" in values else "".join(_words(values["prompt"], seed, 24))


def _audio(values: dict[str, Any], seed: str) -> Any:
    return File("audio.wav", "audio/wav", lambda _read: drawing.melody(seed, values["duration"]))


def _json(values: dict[str, Any], seed: str) -> Any:
    dice = Random(seed)
    if values["kind"] == "numbers":
        return [[round(dice.uniform(-1, 1), 6) for _ in range(8)] for _ in range(2)]
    return {"label": dice.choice(_WORDS), "score": round(dice.random(), 4), "length": len(values["prompt"]), "tags": []}


def _nested(values: dict[str, Any], seed: str) -> Any:
    if values["shape"] == "dicts":
        return [{"file": _picture(values, f"{seed}:{i}", "current.png", "png")} for i in range(2)]
    if values["shape"] == "lists":
        return [[_picture(values, f"{seed}:{i}{j}", f"{i}-{j}.png", "png") for j in range(2 - i)] for i in range(2)]
    prompt = values["prompt"]
    still = _picture(values, seed, "frame.png", "png")
    return {
        "zip": File("frames.zip", "application/zip", lambda read: drawing.archive({still.name: still.draw(read)})),
        "video": File("video.gif", "image/gif", lambda _read: drawing.animation(seed, prompt, (192, 192))),
    }


def _upscale(values: dict[str, Any], _seed: str) -> Any:
    return File("output.png", "image/png", lambda read: drawing.enlarged(read(values["image"]) or b"", values["scale"]))


def _unreadable(values: dict[str, Any], _earlier: int, read: Read) -> Ending | None:
    data = read(values["image"])
    return None if data and drawing.is_image(data) else Ending("failed", "cannot identify image file")


def _one_picture(values: dict[str, Any], seed: str) -> Any:
    return [_picture(values, seed, "out-0.png", "png")]


def _recovered(values: dict[str, Any], seed: str) -> Any:
    return "".join(_words(values["prompt"], seed, 8))


def _chosen_failure(values: dict[str, Any], earlier: int, _read: Read) -> Ending | None:
    times = values.get("times")
    if times is not None and earlier >= times:
        return None
    error = FAILURES.get(values["error"], values["error"])
    return Ending(values["status"], error if values["status"] == "failed" else None)


def _blobs(values: dict[str, Any], seed: str) -> Any:
    name = f"out.{values['extension']}"
    return [_blob(name, f"{seed}:{i}", values["size"]) for i in range(values["count"])]


def _blob(name: str, seed: str, size: int) -> File:
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return File(name, kind, lambda _read: drawing.noise(seed, size))


def _echo(values: dict[str, Any], seed: str) -> Any:
    return _with_files(values.get("output"), seed)


def _with_files(value: Any, seed: str) -> Any:
    if isinstance(value, dict) and "$file" in value:
        return _blob(value["$file"], seed, value.get("size", 1000))
    if isinstance(value, dict):
        return {key: _with_files(each, f"{seed}/{key}") for key, each in value.items()}
    if isinstance(value, list):
        return [_with_files(each, f"{seed}/{i}") for i, each in enumerate(value)]
    return value


def _model(
    name: str, description: str, inputs: dict[str, dict[str, Any]], output: dict[str, Any], make: Any, **more: Any
) -> Model:
    return Model("simulator", name, description, inputs, output, make, **more)


_STRING: dict[str, Any] = {"type": "string"}
_ANYTHING: dict[str, Any] = {}
_ALL = (
    _model("image", "Draws pictures", _PICTURE_INPUTS, _URIS, _pictures, trouble=_refusal),
    _model(
        "community", "Draws pictures; not official", _PICTURE_INPUTS, _URIS, _pictures, trouble=_refusal, official=False
    ),
    _model(
        "tokens",
        "Says something, token by token",
        {"prompt": _PROMPT, "count": {"type": "integer", "default": 24, "minimum": 1, "maximum": 10_000}},
        {"type": "array", "items": _STRING, "x-cog-array-type": "iterator", "x-cog-array-display": "concatenate"},
        _tokens,
    ),
    _model(
        "text", "Says something at once", {"prompt": {"type": "string", "default": ""}, "text": _STRING}, _STRING, _text
    ),
    _model(
        "audio",
        "Plays a few notes",
        {"prompt": _PROMPT, "duration": {"type": "number", "default": 2, "minimum": 0, "maximum": 600}},
        _URI,
        _audio,
    ),
    _model(
        "json",
        "Measures something",
        {"prompt": _PROMPT, "kind": {"type": "string", "default": "object", "enum": ["object", "numbers"]}},
        _ANYTHING,
        _json,
    ),
    _model(
        "nested",
        "Files inside lists and objects",
        {"prompt": _PROMPT, "shape": {"type": "string", "default": "dict", "enum": ["dict", "dicts", "lists"]}},
        _ANYTHING,
        _nested,
    ),
    _model(
        "upscale",
        "Enlarges a picture",
        {"image": _URI | {"required": True}, "scale": {"type": "integer", "default": 2, "minimum": 2, "maximum": 4}},
        _URI,
        _upscale,
        trouble=_unreadable,
    ),
    _model("slow", "Takes its time", {"prompt": _PROMPT}, _URIS, _one_picture, slow=True, cost=0.05),
    _model(
        "flaky",
        "Fails as it is told",
        {
            "prompt": {"type": "string", "default": ""},
            "error": {"type": "string", "default": "PA"},
            "times": {"type": "integer", "minimum": 0},
            "status": {"type": "string", "default": "failed", "enum": ["failed", "canceled", "aborted"]},
        },
        _STRING,
        _recovered,
        trouble=_chosen_failure,
    ),
    _model(
        "bytes",
        "Files of a given size",
        {
            "size": {"type": "integer", "default": 102_400, "minimum": 0, "maximum": 1_000_000_000},
            "count": {"type": "integer", "default": 1, "minimum": 0, "maximum": 100},
            "extension": {"type": "string", "default": "bin"},
        },
        _URIS,
        _blobs,
    ),
    _model("echo", "Gives back any output", {"output": _ANYTHING}, _ANYTHING, _echo),
)
MODELS: dict[str, Model] = {model.full_name: model for model in _ALL}
VERSIONS: dict[str, Model] = {model.version: model for model in _ALL}
DEPLOYMENTS: dict[str, Model] = {"simulator/studio": MODELS["simulator/image"]}
