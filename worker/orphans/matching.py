"""Matching: which prompt a prediction could belong to, and which predictions the records on disk name."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from jobs.batch_folder.folder import RETRIED, Folder
from jobs.batch_folder.manifest import read_manifest
from jobs.batch_folder.prompts_copy import read_copy
from jobs.config import Config
from jobs.errors import StorageError
from jobs.input_files.reference import has_references, read_reference
from jobs.replicate_api.files import file_id_in, upload_in
from jobs.replicate_api.predictions import Prediction
from jobs.secret_inputs import secret_keys, without_keys
from jobs.wire import Prompt, canonical_json

CLOCKS = 3600.0
"""Seconds by which a record may seem too old, as its time may be by another machine's clock."""


class Match(NamedTuple):
    """A prompt that a prediction could belong to, `<batch>/<id>`; `open`: its create was not answered."""

    name: str
    open: bool


UploadIds = Mapping[str, Collection[str]]
"""The ids of all uploads there ever were of each file, by its sha256."""

NONE: UploadIds = {}


def could_serve(prediction: Prediction, prompt: Prompt, uploads: UploadIds | None = NONE) -> bool:
    """Whether the prediction could be the prompt's: an equal input but for secrets, no other model or version named.

    Where the prompt has a local file, the prediction has the URL of one of its `uploads`; None: nobody knows them any
    more, and any uploaded file could be it.
    """
    given, secret = prediction.raw.get("input"), secret_keys(prompt.input)
    return (
        isinstance(given, dict)
        and _equals(without_keys(given, secret), without_keys(prompt.input, secret), uploads)
        and _same_model(prediction, prompt.model)
    )


def _equals(given: Any, wanted: Any, uploads: UploadIds | None) -> bool:
    """Compare two JSON values: 7.0 equals 7, as numbers may be rewritten, and a file equals the URL of its upload.

    Two URLs of one upload are equal, too: the API shows another one than it was sent, with a signature of its own.
    """
    if reference := read_reference(wanted):
        file_id = file_id_in(given)
        return file_id is not None and (uploads is None or file_id in uploads.get(reference.sha256, ()))
    if isinstance(wanted, dict) and isinstance(given, dict):
        return given.keys() == wanted.keys() and all(_equals(given[key], wanted[key], uploads) for key in wanted)
    if isinstance(wanted, list) and isinstance(given, list):
        pairs = zip(given, wanted, strict=False)
        return len(given) == len(wanted) and all(_equals(one, other, uploads) for one, other in pairs)
    return bool(given == wanted) or (upload_in(wanted) is not None and upload_in(given) == upload_in(wanted))


def _same_model(prediction: Prediction, model: str) -> bool:
    """Compare what was asked for with what is shown: by version where one was asked for, as models are renamed."""
    if model.startswith("deployments/"):
        return _agrees(prediction.text("deployment"), model.removeprefix("deployments/"))
    version = model.rpartition(":")[2] if ":" in model or "/" not in model else ""
    return _agrees(prediction.text("version"), version) if version else _agrees(prediction.text("model"), model)


def _agrees(shown: str | None, asked: str) -> bool:
    return not shown or shown == "hidden" or shown.lower() == asked.lower()


def find_recorded(config: Config, since: float, wanted: Collection[str]) -> set[str]:
    """Return those of the wanted predictions that a record written since then (Unix seconds) names."""
    found: set[str] = set()
    for folder in _folders(config) if wanted else ():
        for record in _records(folder, since - CLOCKS):
            found.update(_predictions(record).intersection(wanted))
    return found


def find_matches(
    config: Config,
    predictions: Iterable[Prediction],
    is_open: Callable[[str, int], bool],
    uploads: Mapping[str, UploadIds],
) -> dict[str, Match]:
    """Return the prompt that each prediction could serve, if any, preferably one that `is_open` (batch, index).

    `uploads` are those of the batches in Redis, by name.
    """
    shown = [prediction for prediction in predictions if isinstance(prediction.raw.get("input"), dict)]
    by_kind: dict[_Kind, dict[str, list[Prediction]]] = {}
    found: dict[str, Match] = {}
    for folder, prompt in _prompts(config) if shown else ():
        kind = _Kind(secret_keys(prompt.input), has_references(prompt.input))
        if kind not in by_kind:
            by_kind[kind] = _by_input(shown, kind)
        for prediction in by_kind[kind].get(kind.key(prompt.input), ()):
            known = found.get(prediction.id)
            if could_serve(prediction, prompt, uploads.get(folder.batch)) and not (known and known.open):
                match = Match(f"{folder.batch}/{prompt.id}", is_open(folder.batch, prompt.index))
                if match.open or not known:
                    found[prediction.id] = match
    return found


class _Kind(NamedTuple):
    """What cannot be compared in an input as it is: its secret keys, and its local files if it has some."""

    secret: frozenset[str]
    has_files: bool

    def key(self, values: Mapping[str, Any]) -> str:
        """The same text for all inputs that `could_serve` may consider equal: 7.0 is 7, and each file any other.

        An upload that a prompt names by its URL is its id.
        """
        plain = without_keys(values, self.secret)
        return canonical_json(_plain(_without_uploads(plain) if self.has_files else plain))


def _by_input(predictions: Iterable[Prediction], kind: _Kind) -> dict[str, list[Prediction]]:
    """The predictions by their inputs, as far as prompts of that kind are compared."""
    found: dict[str, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        found[kind.key(prediction.raw["input"])].append(prediction)
    return found


def _without_uploads(value: Any) -> Any:
    """An input with the same text for each local file and for each URL of an uploaded one."""
    if read_reference(value) or file_id_in(value):
        return "a file"
    if isinstance(value, Mapping):
        return {key: _without_uploads(item) for key, item in value.items()}
    return [_without_uploads(item) for item in value] if isinstance(value, list) else value


def _folders(config: Config) -> Iterator[Folder]:
    """The folders of all batches of this API host, including those that Redis has forgotten."""
    with suppress(FileNotFoundError):
        for path in sorted(config.output_dir.iterdir()):
            folder = Folder(config.output_dir, path.name)
            with suppress(StorageError):
                if (
                    folder.manifest.is_file()
                    and (manifest := read_manifest(folder))
                    and manifest.api_host == config.api_host
                ):
                    yield folder


def _records(folder: Folder, since: float) -> Iterator[Path]:
    for directory in (folder.path, folder.path / RETRIED):
        for path in directory.glob("*/prediction.json"):
            with suppress(OSError):
                if path.stat().st_mtime >= since:
                    yield path


def _predictions(record: Path) -> set[str]:
    try:
        return set(json.loads(record.read_bytes())["prediction_ids"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def _prompts(config: Config) -> Iterator[tuple[Folder, Prompt]]:
    for folder in _folders(config):
        with suppress(StorageError, OSError):
            for prompt in read_copy(folder):
                yield folder, prompt


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bool | float) and abs(value) < 2**53:
        return int(value) if int(value) == value else value
    return upload_in(value) or value
