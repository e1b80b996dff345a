"""A model as the API shows it: read by its name, its version, or the deployment that runs it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from jobs.catalog.model import Missing, Model
from jobs.catalog.references import input_schema
from jobs.errors import NotFound

Get = Callable[[str], Awaitable[Mapping[str, Any]]]
"""GET of a path of the API; raises ReplicateErrors."""

UNSEEN = "it does not exist, or your token does not see it"
BARE_VERSION = "a version alone cannot be looked up; write owner/name:version"
NO_SCHEMA = "the API shows no schema of its input"
HIDDEN = "the API does not show the model that it runs"
OLD_OFFICIAL = "the API shows only the latest version of an official model"


async def look_up(get: Get, name: str) -> Model | Missing:
    """Return what the API says of a model; only other errors than NotFound are raised."""
    if "/" not in name:
        return _model(name, name, None, unchecked=BARE_VERSION)
    if name.startswith("deployments/"):
        return await _deployment(get, name)
    plain, _, version = name.partition(":")
    return await (_version(get, plain, version) if version else _latest(get, plain))


async def _latest(get: Get, name: str) -> Model | Missing:
    body = await _found(get, f"/v1/models/{name}")
    if body is None:
        return Missing(name, UNSEEN)
    if (shown := f"{body.get('owner', '')}/{body.get('name', '')}") != name and "/" not in (shown[0], shown[-1]):
        return Missing(name, f"it is called {shown}", shown)
    official, latest = body.get("is_official") is True, body.get("latest_version")
    if not isinstance(latest, Mapping) or not isinstance(latest.get("id"), str):
        if official:
            return _model(name, None, None, official=True)
        return Missing(name, "it has no version that could run")
    return _model(name, latest["id"], latest.get("openapi_schema"), official=official)


async def _version(get: Get, plain: str, version: str) -> Model | Missing:
    name = f"{plain}:{version}"
    if body := await _found(get, f"/v1/models/{plain}/versions/{version}"):
        return _model(name, version, body.get("openapi_schema"))
    latest = await _latest(get, plain)
    if isinstance(latest, Missing):
        return Missing(name, latest.reason, latest.instead and f"{latest.instead}:{version}")
    if latest.version == version:
        return Model(name, version, latest.official, latest.schema, latest.looked_up, latest.unchecked)
    if latest.official:
        return _model(name, version, None, official=True, unchecked=OLD_OFFICIAL)
    return Missing(name, f"{plain} has no such version", f"{plain}:{latest.version}")


async def _deployment(get: Get, name: str) -> Model | Missing:
    body = await _found(get, f"/v1/{name}")
    if body is None:
        return Missing(name, UNSEEN)
    release = body.get("current_release")
    release = release if isinstance(release, Mapping) else {}
    model, version = release.get("model"), release.get("version")
    if not isinstance(model, str) or not isinstance(version, str):
        return _model(name, None, None, unchecked=HIDDEN)
    runs = await _version(get, model, version)
    if isinstance(runs, Missing):
        return _model(name, version, None, unchecked=HIDDEN)
    return Model(name, version, runs.official, runs.schema, runs.looked_up, runs.unchecked)


def _model(
    name: str, version: str | None, document: Any, *, official: bool = False, unchecked: str = NO_SCHEMA
) -> Model:
    schema = input_schema(document)
    return Model(name, version, official, schema, time.time(), unchecked if schema is None else None)


async def _found(get: Get, path: str) -> Mapping[str, Any] | None:
    try:
        return await get(path)
    except NotFound:
        return None
