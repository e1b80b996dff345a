"""Which input of a model takes a file."""

from __future__ import annotations

from collections.abc import Iterable

from jobs.catalog.model import Missing, Model
from jobs.errors import InputError
from jobs.input_files.uri_schemas import takes_files


def only_file_key(models: Iterable[Model | Missing]) -> str:
    """The only input that takes a file, or a list of files, in all of these models; InputError."""
    found: dict[str, str] = {}
    for model in models:
        keys = _file_keys(model)
        if len(keys) != 1:
            has = f"{model.name} has {', '.join(keys) or 'none'}"
            raise InputError(f"--as says which input the files are: {has}")
        found[keys[0]] = model.name
    if not found:
        raise InputError("no model is given: --model or BATCH_MODEL names it")
    if len(found) > 1:
        has = ", ".join(f"{name} has {key}" for key, name in found.items())
        raise InputError(f"--as says which input the files are: {has}")
    return next(iter(found))


def _file_keys(model: Model | Missing) -> list[str]:
    if isinstance(model, Missing):
        raise InputError(model.sentence)
    if model.input is None:
        raise InputError(f"--as says which input the files are: the schema of {model.name} is not known")
    return [key for key, schema in model.input.properties.items() if isinstance(schema, dict) and takes_files(schema)]
