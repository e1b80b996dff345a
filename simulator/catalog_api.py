"""Read-only calls: models, versions, deployments, the account."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulator.bodies import compact
from simulator.models import Model
from simulator.problems import not_found
from simulator.registry import DEPLOYMENTS, MODELS

_SINCE = "2024-01-15T12:00:00.000000Z"
ACCOUNT = {"type": "user", "username": "simulator", "name": "The Simulator", "github_url": None}


def routes() -> list[Route]:
    """The paths."""
    return [
        Route("/v1/account", account, methods=["GET"]),
        Route("/v1/models/{owner}/{name}", model, methods=["GET"]),
        Route("/v1/models/{owner}/{name}/versions", versions, methods=["GET"]),
        Route("/v1/models/{owner}/{name}/versions/{id}", version, methods=["GET"]),
        Route("/v1/deployments/{owner}/{name}", deployment, methods=["GET"]),
    ]


async def account(_request: Request) -> Response:
    """GET /v1/account."""
    return _answer(ACCOUNT)


async def model(request: Request) -> Response:
    """GET /v1/models/{owner}/{name}."""
    found = _find(request)
    return _answer(
        {
            "url": f"https://replicate.com/{found.full_name}",
            "owner": found.owner,
            "name": found.name,
            "description": found.description,
            "visibility": "public",
            "is_official": found.official,
            "github_url": None,
            "paper_url": None,
            "license_url": None,
            "run_count": 1,
            "cover_image_url": None,
            "default_example": None,
            "latest_version": _version(found),
        }
    )


async def versions(request: Request) -> Response:
    """GET /v1/models/{owner}/{name}/versions."""
    return _answer({"next": None, "previous": None, "results": [_version(_find(request))]})


async def version(request: Request) -> Response:
    """GET /v1/models/{owner}/{name}/versions/{id}."""
    found = _find(request)
    if request.path_params["id"] != found.version:
        raise not_found()
    return _answer(_version(found))


async def deployment(request: Request) -> Response:
    """GET /v1/deployments/{owner}/{name}."""
    owner, name = request.path_params["owner"], request.path_params["name"]
    runs = DEPLOYMENTS.get(f"{owner}/{name}")
    if runs is None:
        raise not_found()
    release = {
        "number": 1,
        "model": runs.full_name,
        "version": runs.version,
        "created_at": _SINCE,
        "created_by": ACCOUNT,
        "configuration": {"hardware": "cpu", "min_instances": 0, "max_instances": 1},
    }
    return _answer({"owner": owner, "name": name, "current_release": release})


def _version(found: Model) -> dict[str, Any]:
    return {
        "id": found.version,
        "created_at": _SINCE,
        "cog_version": "0.9.4",
        "openapi_schema": found.openapi_schema(),
    }


def _find(request: Request) -> Model:
    found = MODELS.get(f"{request.path_params['owner']}/{request.path_params['name']}")
    if found is None:
        raise not_found()
    return found


def _answer(body: dict[str, Any]) -> Response:
    return Response(compact(body), media_type="application/json")
