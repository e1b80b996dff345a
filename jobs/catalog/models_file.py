"""models.json in a batch's folder: what its models were when it was enqueued; later enqueues go on with that."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from jobs.batch_folder.atomic_files import replacing, storing
from jobs.batch_folder.folder import MODELS, Folder
from jobs.catalog.model import Model
from jobs.errors import InputError, StorageError
from jobs.wire import timestamp

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
    try:
        with storing(folder.models):
            text = folder.models.read_bytes() if folder.models.exists() else b"{}"
        return {name: _model(name, entry) for name, entry in json.loads(text).get("models", {}).items()}
    except (ValueError, AttributeError, RecursionError) as error:
        message = f"{folder.models} is not as it was written; restore it, or move it away to look the models up again"
        raise StorageError(message, folder.models) from error


def check_pins(folder: Folder, models: Mapping[str, Model]) -> None:
    """InputError when another command has pinned other versions since the models were looked up; StorageError."""
    for name, model in read_models(folder).items():
        if name in models and models[name].pinned != model.pinned:
            raise InputError(
                f"another command has just enqueued {folder.batch!r} with another version of {name}; "
                "the same command again goes on with that one"
            )


def keep_models(folder: Folder, models: Mapping[str, Model], *, fsync: bool) -> None:
    """Write what the models of a batch are, before any row that names them; StorageError."""
    known = read_models(folder)
    if (every := known | dict(models)) == known:
        return
    content = {"models": {name: _fields(every[name]) for name in sorted(every)}}
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
