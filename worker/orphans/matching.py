"""What is on disk that may know a prediction: the records and the prompts of every batch of this API host."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from jobs.batch_folder.folder import RETRIED, Folder
from jobs.batch_folder.manifest import read_manifest
from jobs.config import Config
from jobs.errors import StorageError
from jobs.replicate_api.predictions import Prediction
from jobs.wire import Prompt, canonical_json
from worker.orphans.search import serves

CLOCKS = 3600.0
"""Seconds that a record may seem older than it is: the disk's clock may be another machine's."""


class Match(NamedTuple):
    """A prompt that a prediction could serve, `<batch>/<id>`; `open`: it is looking for one."""

    name: str
    open: bool


def recorded_predictions(config: Config, since: float, wanted: Collection[str]) -> set[str]:
    """Those of the wanted predictions that a record names which was written since a time (Unix seconds)."""
    found: set[str] = set()
    for folder in _folders(config) if wanted else ():
        for record in _records(folder, since - CLOCKS):
            found.update(_predictions(record).intersection(wanted))
    return found


def matches(config: Config, predictions: Iterable[Prediction], looking: Callable[[str, int], bool]) -> dict[str, Match]:
    """The prompt that each prediction could serve, if any; one that is `looking` (batch, index) before all others."""
    by_input: dict[str, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        if isinstance(given := prediction.raw.get("input"), dict):
            by_input[_key(given)].append(prediction)
    found: dict[str, Match] = {}
    for folder, prompt in _prompts(config) if by_input else ():
        for prediction in by_input.get(_key(prompt.input), ()):
            known = found.get(prediction.id)
            if serves(prediction, prompt) and not (known and known.open):
                is_open = looking(folder.batch, prompt.index)
                if is_open or not known:
                    found[prediction.id] = Match(f"{folder.batch}/{prompt.id}", is_open)
    return found


def _folders(config: Config) -> Iterator[Folder]:
    """The folders of all batches of this API host, those that Redis has forgotten too."""
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
            for prompt in folder.read_prompts():
                yield folder, prompt


def _key(value: Any) -> str:
    """One text for inputs that `serves` takes for equal: 7.0 is 7."""
    return canonical_json(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bool | float) and abs(value) < 2**53:
        return int(value) if int(value) == value else value
    return value
