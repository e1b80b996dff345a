"""Which input `--each-file` and `--from` set when nobody says it."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.catalog.file_key import only_file_key
from jobs.catalog.model import Missing, Model
from jobs.errors import InputError

URI = {"type": "string", "format": "uri"}
TEXT = {"type": "string"}


def model(name: str, **inputs: Any) -> Model:
    return Model(name, official=True, version="1" * 64, schema={"properties": inputs}, looked_up=0.0)


@pytest.mark.parametrize(
    "schema",
    [
        URI,
        {"anyOf": [URI, {"type": "null"}]},
        {"allOf": [URI], "nullable": True},
        {"type": "array", "items": URI},
        {"anyOf": [{"type": "array", "items": {"anyOf": [URI, {"type": "null"}]}}, {"type": "null"}]},
    ],
)
def test_the_only_input_that_takes_files(schema: dict[str, Any]) -> None:
    assert only_file_key([model("a/b", photo=schema, prompt=TEXT), model("c/d", photo=URI)]) == "photo"


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([], "no model is given: --model or BATCH_MODEL names it"),
        ([model("a/b", prompt=TEXT)], "a/b has none"),
        ([model("a/b", image=URI, mask=URI)], "a/b has image, mask"),
        ([model("a/b", image=URI), model("c/d", mask=URI)], "a/b has image, c/d has mask"),
        ([Model("a/b", official=True, version=None, schema=None, looked_up=0.0)], "the schema of a/b is not known"),
        ([Missing("a/b", "it is not there", "a/c")], "a/b: it is not there; did you mean a/c?"),
    ],
)
def test_what_only_a_person_can_say(models: list[Model | Missing], message: str) -> None:
    with pytest.raises(InputError) as caught:
        only_file_key(models)
    assert str(caught.value).endswith(message)
