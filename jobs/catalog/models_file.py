"""models.json in a batch's folder: what its models were and cost when it was enqueued; that holds for all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from jobs.batch_folder.atomic_files import replacing, storing
from jobs.batch_folder.folder import MODELS, Folder
from jobs.catalog.model import Model
from jobs.errors import InputError, PriceError, StorageError
from jobs.prices.file import parse_cards, write_card
from jobs.prices.price_list import NO_CARDS
from jobs.prices.rate_card import RateCard
from jobs.wire import timestamp

CARDS = "price_cards"
"""The key of the rate cards: each is a text as in prices.toml, by the model as rows name it."""

EARLIER = 50
"""Batches whose models are looked through for a name that is like a misspelt one."""


class _Entry(BaseModel, defer_build=True):
    version: str | None
    official: bool
    digest: str | None
    looked_up: datetime
    unchecked: str | None = None
    schema_: dict[str, Any] | None = None


def read_models(folder: Folder) -> dict[str, Model]:
    """The models of a batch by name; none for a batch that was not checked. StorageError when the file is damaged."""
    with _reading(folder) as content:
        return {name: _model(name, entry) for name, entry in content.get("models", {}).items()}


def read_cards(folder: Folder) -> dict[str, RateCard]:
    """The rate cards that a batch began with, by the models of its rows; StorageError when the file is damaged."""
    with _reading(folder) as content:
        return {model: _card(text, folder) for model, text in content.get(CARDS, {}).items()}


@contextmanager
def _reading(folder: Folder) -> Iterator[dict[str, Any]]:
    """Read what the file has, and have it understood in the block."""
    try:
        with storing(folder.models):
            text = folder.models.read_bytes() if folder.models.exists() else b"{}"
        yield json.loads(text)
    except (ValueError, AttributeError, TypeError, RecursionError, PriceError) as error:
        message = f"{folder.models} is not as it was written; restore it, or move it away to look the models up again"
        raise StorageError(message, folder.models) from error


def _card(text: str, folder: Folder) -> RateCard:
    (card,) = parse_cards(text, folder.models).values()
    return card


def check_pins(folder: Folder, models: Mapping[str, Model]) -> None:
    """InputError when another command has pinned other versions since the models were looked up; StorageError."""
    for name, model in read_models(folder).items():
        if name in models and models[name].pinned != model.pinned:
            raise InputError(
                f"another command has just enqueued {folder.batch!r} with another version of {name}; "
                "the same command again goes on with that one"
            )


def keep_models(
    folder: Folder, models: Mapping[str, Model], cards: Mapping[str, RateCard] = NO_CARDS, *, fsync: bool
) -> None:
    """Write what the models of a batch are and cost, before any row that names them; StorageError.

    A price that the batch has stays.
    """
    known, priced = read_models(folder), read_cards(folder)
    every, prices = known | dict(models), dict(cards) | priced
    if (every, prices) == (known, priced):
        return
    content: dict[str, Any] = {"models": {name: _fields(every[name]) for name in sorted(every)}}
    if prices:
        content[CARDS] = {model: write_card("", prices[model]) for model in sorted(prices)}
    with replacing(folder.models, fsync=fsync) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")


def earlier_names(output_dir: Path) -> list[str]:
    """The models of the batches that were enqueued last; what cannot be read has none."""
    return [name for path in islice(_newest(output_dir), EARLIER) for name in _names(path)]


def encode(model: Model) -> bytes:
    """A model as JSON."""
    return json.dumps(_fields(model), separators=(",", ":")).encode()


def decode(name: str, text: bytes) -> Model | None:
    """Read such JSON; None when it is something else."""
    try:
        return _model(name, json.loads(text))
    except ValueError:
        return None


def _fields(model: Model) -> dict[str, Any]:
    return {
        "version": model.version,
        "official": model.official,
        "digest": model.digest,
        "looked_up": timestamp(model.looked_up),
        "unchecked": model.unchecked,
        "schema": model.schema,
    }


def _model(name: str, fields: dict[str, Any]) -> Model:
    try:
        entry = _Entry.model_validate({**fields, "schema_": fields.get("schema")})
    except (ValidationError, TypeError) as error:
        raise ValueError(f"{name} is not as it was written") from error
    seen = entry.looked_up.timestamp()
    return Model(name, entry.version, entry.official, entry.schema_, seen, entry.unchecked)


def _newest(output_dir: Path) -> Iterator[Path]:
    found = []
    for path in output_dir.glob(f"*/{MODELS}"):
        try:
            found.append((path.stat().st_mtime_ns, path))
        except OSError:
            continue
    return (path for _, path in sorted(found, reverse=True))


def _names(path: Path) -> list[str]:
    try:
        return list(json.loads(path.read_bytes())["models"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
