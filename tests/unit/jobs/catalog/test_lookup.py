from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from jobs.catalog.lookup import BARE_VERSION, HIDDEN, NO_SCHEMA, OLD_OFFICIAL, UNSEEN, look_up
from jobs.catalog.model import Missing, Model
from jobs.errors import NotFound

V1, V2 = "1" * 64, "2" * 64
DOCUMENT = {"components": {"schemas": {"Input": {"type": "object"}}}}


def model(name: str = "a/b", *, official: bool | None = True, latest: Any = V1) -> dict[str, Any]:
    owner, _, short = name.partition("/")
    version = {"id": latest, "openapi_schema": DOCUMENT} if isinstance(latest, str) else latest
    body = {"owner": owner, "name": short, "is_official": official, "latest_version": version}
    return {key: value for key, value in body.items() if value is not None}


def release(**fields: Any) -> dict[str, Any]:
    return {"current_release": fields or None}


async def found(name: str, answers: Mapping[str, Any]) -> Model | Missing:
    async def get(path: str) -> Mapping[str, Any]:
        if path not in answers:
            raise NotFound("no", status=404)
        answer: Mapping[str, Any] = answers[path]
        return answer

    return await look_up(get, name)


MODEL, VERSION = "/v1/models/a/b", f"/v1/models/a/b/versions/{V1}"
DEPLOYMENT = "/v1/deployments/a/d"


@pytest.mark.parametrize(
    ("name", "answers", "version", "official", "unchecked", "pinned"),
    [
        ("a/b", {MODEL: model()}, V1, True, None, "a/b"),
        ("a/b", {MODEL: model(official=False)}, V1, False, None, f"a/b:{V1}"),
        ("a/b", {MODEL: model(official=None)}, V1, False, None, f"a/b:{V1}"),
        ("a/b", {MODEL: model(latest={})}, None, True, NO_SCHEMA, "a/b"),
        ("a/b", {MODEL: {"is_official": True, "latest_version": {"id": V1}}}, V1, True, NO_SCHEMA, "a/b"),
        (f"a/b:{V1}", {VERSION: {"openapi_schema": DOCUMENT}}, V1, False, None, f"a/b:{V1}"),
        (f"a/b:{V1}", {VERSION: {"openapi_schema": None}}, V1, False, NO_SCHEMA, f"a/b:{V1}"),
        (f"a/b:{V1}", {MODEL: model()}, V1, True, None, f"a/b:{V1}"),
        (f"a/b:{V2}", {MODEL: model()}, V2, True, OLD_OFFICIAL, f"a/b:{V2}"),
        (V1, {}, V1, False, BARE_VERSION, V1),
        (
            "deployments/a/d",
            {DEPLOYMENT: release(model="a/b", version=V1), VERSION: {"openapi_schema": DOCUMENT}},
            V1, False, None, "deployments/a/d",
        ),
        ("deployments/a/d", {DEPLOYMENT: release(model="a/b", version=V1)}, V1, False, HIDDEN, "deployments/a/d"),
        ("deployments/a/d", {DEPLOYMENT: release()}, None, False, HIDDEN, "deployments/a/d"),
    ],
)  # fmt: skip
async def test_what_the_api_shows_of_a_model(
    *, name: str, answers: dict[str, Any], version: str | None, official: bool, unchecked: str | None, pinned: str
) -> None:
    known = await found(name, answers)
    assert isinstance(known, Model)
    assert (known.name, known.version, known.official, known.unchecked) == (name, version, official, unchecked)
    assert known.pinned == pinned
    assert (known.schema is None) == (known.input is None) == (known.digest is None) == (unchecked is not None)


@pytest.mark.parametrize(
    ("name", "answers", "reason", "instead"),
    [
        ("a/b", {}, UNSEEN, None),
        ("A/b", {"/v1/models/A/b": model("a/b")}, "it is called a/b", "a/b"),
        ("a/b", {MODEL: model(official=False, latest={})}, "it has no version that could run", None),
        (f"a/b:{V2}", {}, UNSEEN, None),
        (f"a/b:{V2}", {MODEL: model(official=False)}, "a/b has no such version", f"a/b:{V1}"),
        (f"A/b:{V2}", {"/v1/models/A/b": model("a/b")}, "it is called a/b", f"a/b:{V2}"),
        ("deployments/a/d", {}, UNSEEN, None),
    ],
)
async def test_a_model_that_cannot_run(name: str, answers: dict[str, Any], reason: str, instead: str | None) -> None:
    assert await found(name, answers) == Missing(name, reason, instead)
