"""The public pages of models, with the rate card that each embeds; no token is asked for."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from simulator.answers import not_found
from simulator.models.model import Model
from simulator.models.registry import MODELS


def routes() -> list[Route]:
    """The paths."""
    return [Route("/{owner}/{name}", page, methods=["GET"])]


async def page(request: Request) -> Response:
    """GET /{owner}/{name}."""
    found = MODELS.get(f"{request.path_params['owner']}/{request.path_params['name']}")
    if found is None:
        raise not_found()
    scripts = "".join(_script(name, props) for name, props in (("Header", {"user": None}), ("Model", _props(found))))
    return HTMLResponse(f"<!doctype html><title>{escape(found.full_name)}</title><h1>{found.name}</h1>{scripts}")


def _props(found: Model) -> dict[str, Any]:
    model: dict[str, Any] = {"owner": found.owner, "name": found.name, "description": found.description}
    if found.tiers:
        model["billingConfig"] = {"current_tiers": found.tiers}
    if found.price_text:
        model["price"] = found.price_text
    return {"model": model}


def _script(name: str, props: dict[str, Any]) -> str:
    text = json.dumps(props).replace("<", "\\u003c")
    return f'\n<script type="application/json" id="react-component-props-{name}">{text}</script>'
