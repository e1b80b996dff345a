"""The models there are. All take `seed`, `predict_time` and `queue_time` besides the inputs listed here.

simulator/image      prompt, num_outputs 1-4, output_format png|webp|jpg, width, height -> list of URLs;
                     a prompt with "nsfw" is refused (E005)
simulator/tokens     prompt, count -> list of strings that grows while it runs
simulator/text       prompt, text -> one string (`text` verbatim, if given)
simulator/audio      prompt, duration -> one URL (WAV)
simulator/json       prompt, kind object|numbers -> a dict, or a list of lists of numbers
simulator/nested     prompt, shape dict|dicts|lists -> {"zip": URL, "video": URL}, [{"file": URL}], [[URL, URL], [URL]]
simulator/upscale    image (URI), scale 2-4 -> one URL
simulator/collage    images (URIs), background -> one URL
simulator/slow       prompt -> list of one URL, after a log-normal time
simulator/flaky      prompt, error (a key of outputs.FAILURES, or any text), times (null: always),
                     status failed|canceled|aborted -> one string
simulator/bytes      size, count, extension -> list of URLs of that many bytes
simulator/echo       output -> that very value, where {"$output": "name.ext", "size"?: n} becomes a URL
simulator/poster     prompt, quality low|medium|high|auto, number_of_images 1-10 -> list of URLs
simulator/film       prompt, duration 4|6|8, resolution 720p|1080p, generate_audio -> one URL
simulator/everything every kind of input that Cog writes, none of them required -> one string
simulator/community  like image, but not official: it needs its version
simulator/private    like image, but this account does not see it
simulator/unborn     not official, and without a version
simulator/formless   like text, not official; its schema has no Input
simulator/circular   like text, not official; its schema refers to itself
deployments/simulator/studio   runs simulator/image
deployments/simulator/atelier  runs simulator/community
"""

from __future__ import annotations

from typing import Any

from simulator.models import outputs, rate_cards
from simulator.models.model import Model

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


def _model(
    name: str, description: str, inputs: dict[str, dict[str, Any]], output: dict[str, Any], make: Any, **more: Any
) -> Model:
    return Model("simulator", name, description, inputs, output, make, **more)


_STRING: dict[str, Any] = {"type": "string"}
_ANYTHING: dict[str, Any] = {}
_TEXT_INPUTS: dict[str, dict[str, Any]] = {"prompt": {"type": "string", "default": ""}, "text": _STRING}
_EVERY_KIND: dict[str, dict[str, Any]] = {
    "prompt": {"type": "string", "default": ""},
    "text": _STRING,
    "style": {"type": "string", "default": "plain", "enum": ["plain", "bold", "007"]},
    "steps": {"type": "integer", "default": 4, "minimum": 1, "maximum": 50},
    "size": {"type": "integer", "default": 512, "enum": [256, 512, 1024]},
    "strength": {"type": "number", "default": 0.8, "minimum": 0, "maximum": 1},
    "code": {"type": "string", "maxLength": 8},
    "tiled": {"type": "boolean", "default": False},
    "image": _URI | {"nullable": True},
    "references": _URIS | {"default": []},
    "stops": {"type": "array", "items": _STRING},
    "sizes": {"type": "array", "items": {"type": "integer", "minimum": 1}},
    "scale": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
    "options": {"type": "object"},
    "key": {"type": "string", "format": "password", "writeOnly": True, "x-cog-secret": True},
}
_FORMLESS = {"openapi": "3.0.2", "info": {"title": "Cog"}, "components": {"schemas": {"Output": _STRING}}}
_CIRCULAR = {
    "openapi": "3.0.2",
    "info": {"title": "Cog"},
    "components": {
        "schemas": {
            "Input": {
                "type": "object",
                "properties": {
                    "prompt": _STRING,
                    "text": {"$ref": "#/components/schemas/Input/properties/prompt"},
                    "loop": {"$ref": "#/components/schemas/Loop"},
                    "missing": {"$ref": "#/components/schemas/Nowhere"},
                    "next": {"type": "array", "items": {"$ref": "#/components/schemas/Input"}},
                },
            },
            "Loop": {"allOf": [{"$ref": "#/components/schemas/Pool"}]},
            "Pool": {"$ref": "#/components/schemas/Loop"},
        }
    },
}
_ALL = (
    _model(
        "image",
        "Draws pictures",
        _PICTURE_INPUTS,
        _URIS,
        outputs.pictures,
        trouble=outputs.refusal,
        tiers=rate_cards.IMAGES,
        measure=lambda values: {"image_output_count": values["num_outputs"]},
    ),
    _model(
        "community",
        "Draws pictures; not official",
        _PICTURE_INPUTS,
        _URIS,
        outputs.pictures,
        trouble=outputs.refusal,
        official=False,
        price_text="from $0.01",
    ),
    _model(
        "tokens",
        "Says something, token by token",
        {"prompt": _PROMPT, "count": {"type": "integer", "default": 24, "minimum": 1, "maximum": 10_000}},
        {"type": "array", "items": _STRING, "x-cog-array-type": "iterator", "x-cog-array-display": "concatenate"},
        outputs.tokens,
        tiers=rate_cards.TOKENS,
        measure=lambda values: {
            "token_input_count": len(values["prompt"].split()),
            "token_output_count": values["count"],
        },
    ),
    _model(
        "text",
        "Says something at once",
        _TEXT_INPUTS,
        _STRING,
        outputs.text,
        price_text="$0.000225 per second",
    ),
    _model(
        "audio",
        "Plays a few notes",
        {"prompt": _PROMPT, "duration": {"type": "number", "default": 2, "minimum": 0, "maximum": 600}},
        _URI,
        outputs.audio,
        tiers=rate_cards.SPEECH,
        measure=lambda values: {
            "character_input_count": len(values["prompt"]),
            "audio_output_duration_seconds": values["duration"],
        },
    ),
    _model(
        "json",
        "Measures something",
        {"prompt": _PROMPT, "kind": {"type": "string", "default": "object", "enum": ["object", "numbers"]}},
        _ANYTHING,
        outputs.measures,
    ),
    _model(
        "nested",
        "Files inside lists and objects",
        {"prompt": _PROMPT, "shape": {"type": "string", "default": "dict", "enum": ["dict", "dicts", "lists"]}},
        _ANYTHING,
        outputs.nested,
    ),
    _model(
        "upscale",
        "Enlarges a picture",
        {"image": _URI | {"required": True}, "scale": {"type": "integer", "default": 2, "minimum": 2, "maximum": 4}},
        _URI,
        outputs.upscale,
        trouble=outputs.unreadable,
        tiers=rate_cards.MEGAPIXELS,
        measure=lambda values: {
            "image_input_megapixel_count": 0.9,
            "image_output_megapixel_count": values["scale"] ** 2,
        },
    ),
    _model(
        "collage",
        "Puts pictures side by side",
        {
            "images": _URIS | {"required": True},
            "background": _URI,
            "prompt": {"type": "string", "default": ""},
        },
        _URI,
        outputs.collage,
        trouble=outputs.unreadable,
    ),
    _model(
        "poster",
        "Draws pictures of any quality",
        {
            "prompt": _PROMPT,
            "quality": {"type": "string", "default": "auto", "enum": ["low", "medium", "high", "auto"]},
            "number_of_images": {"type": "integer", "default": 1, "minimum": 1, "maximum": 10},
        },
        _URIS,
        outputs.posters,
        tiers=rate_cards.POSTERS,
        measure=lambda values: {
            "image_output_count": values["number_of_images"],
            "model_variant": values["quality"],
        },
    ),
    _model(
        "film",
        "Moves pictures",
        {
            "prompt": _PROMPT,
            "duration": {"type": "integer", "default": 8, "enum": [4, 6, 8]},
            "resolution": {"type": "string", "default": "720p", "enum": ["720p", "1080p"]},
            "generate_audio": {"type": "boolean", "default": True},
        },
        _URI,
        outputs.film,
        tiers=rate_cards.FILMS,
        measure=lambda values: {
            "video_output_count": 1,
            "video_output_duration_seconds": float(values["duration"]),
            "model_variant": "with_audio" if values["generate_audio"] else "without_audio",
            "resolution_target": values["resolution"],
            "with_audio": values["generate_audio"],
        },
    ),
    _model("slow", "Takes its time", {"prompt": _PROMPT}, _URIS, outputs.one_picture, slow=True, cost=0.05),
    _model(
        "flaky",
        "Fails as it is told",
        {
            "prompt": {"type": "string", "default": ""},
            "error": {"type": "string", "default": "PA"},
            "times": {"type": "integer", "minimum": 0, "nullable": True},
            "status": {"type": "string", "default": "failed", "enum": ["failed", "canceled", "aborted"]},
        },
        _STRING,
        outputs.recovered,
        trouble=outputs.chosen_failure,
    ),
    _model(
        "bytes",
        "Files of a given size",
        {
            "size": {"type": "integer", "default": 102_400, "minimum": 0, "maximum": 200_000_000},
            "count": {"type": "integer", "default": 1, "minimum": 0, "maximum": 100},
            "extension": {"type": "string", "default": "bin"},
        },
        _URIS,
        outputs.blobs,
        tiers=rate_cards.UNITS,
        measure=lambda values: {"unspecified_billing_metric": float(values["count"])},
    ),
    _model("everything", "Takes every kind of input", _EVERY_KIND, _STRING, outputs.text),
    _model(
        "private",
        "Draws pictures for somebody else",
        _PICTURE_INPUTS,
        _URIS,
        outputs.pictures,
        private=True,
    ),
    _model("unborn", "Has no version yet", _TEXT_INPUTS, _STRING, outputs.text, official=False, published=False),
    _model("formless", "Says something", _TEXT_INPUTS, _STRING, outputs.text, official=False, shown_schema=_FORMLESS),
    _model("circular", "Says something", _TEXT_INPUTS, _STRING, outputs.text, official=False, shown_schema=_CIRCULAR),
    _model("echo", "Gives back any output", {"output": _ANYTHING}, _ANYTHING, outputs.echo),
)
MODELS: dict[str, Model] = {model.full_name: model for model in _ALL}
DEPLOYMENTS: dict[str, Model] = {
    "simulator/studio": MODELS["simulator/image"],
    "simulator/atelier": MODELS["simulator/community"],
}
