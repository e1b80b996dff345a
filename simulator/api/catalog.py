"""Read-only calls: models, versions, deployments, the account."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulator.answers import json_answer, not_found
from simulator.models.model import Model
from simulator.models.registry import DEPLOYMENTS, MODELS
from simulator.simulation import Simulation

_SINCE = "2024-01-15T12:00:00.000000Z"
ACCOUNT = {"type": "user", "username": "simulator", "name": "The Simulator", "github_url": None}


class CatalogApi:
    """Answers the calls on what there is; what the account does not see is not found."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def routes(self) -> list[Route]:
        """The paths."""
        return [
            Route("/v1/account", self.account, methods=["GET"]),
            Route("/v1/models/{owner}/{name}", self.model, methods=["GET"]),
            Route("/v1/models/{owner}/{name}/versions", self.versions, methods=["GET"]),
            Route("/v1/models/{owner}/{name}/versions/{id}", self.version, methods=["GET"]),
            Route("/v1/deployments/{owner}/{name}", self.deployment, methods=["GET"]),
        ]

    async def account(self, _request: Request) -> Response:
        """GET /v1/account."""
        return json_answer(ACCOUNT)

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{owner}/{name}."""
        found = self._find(request)
        latest = _version(found, self._simulation.versions.latest(found)) if found.published else None
        return json_answer(
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
                "latest_version": latest,
            }
        )

    async def versions(self, request: Request) -> Response:
        """GET /v1/models/{owner}/{name}/versions; official models have no such list."""
        found = self._find(request)
        if found.official:
            raise not_found()
        results = [_version(found, version) for version in self._simulation.versions.of(found)]
        return json_answer({"next": None, "previous": None, "results": results})

    async def version(self, request: Request) -> Response:
        """GET /v1/models/{owner}/{name}/versions/{id}."""
        found, version = self._find(request), request.path_params["id"]
        if self._simulation.versions.model(version) is not found:
            raise not_found()
        return json_answer(_version(found, version))

    async def deployment(self, request: Request) -> Response:
        """GET /v1/deployments/{owner}/{name}."""
        owner, name = request.path_params["owner"], request.path_params["name"]
        runs = DEPLOYMENTS.get(f"{owner}/{name}")
        if runs is None or not self._simulation.settings.sees_models:
            raise not_found()
        release = {
            "number": 1,
            "model": runs.full_name,
            "version": self._simulation.versions.latest(runs),
            "created_at": _SINCE,
            "created_by": ACCOUNT,
            "configuration": {"hardware": "cpu", "min_instances": 0, "max_instances": 1},
        }
        return json_answer({"owner": owner, "name": name, "current_release": release})

    def _find(self, request: Request) -> Model:
        found = MODELS.get(f"{request.path_params['owner']}/{request.path_params['name']}")
        if found is None or found.private or not self._simulation.settings.sees_models:
            raise not_found()
        return found


def _version(found: Model, version: str) -> dict[str, Any]:
    return {
        "id": version,
        "created_at": _SINCE,
        "cog_version": "0.9.4",
        "openapi_schema": found.openapi_schema(),
    }
