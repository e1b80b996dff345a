"""The calls under /control/, for tests: no rate limit, no faults, no token."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulator.answers import Problem, json_answer
from simulator.simulation import Simulation


class ControlApi:
    """Answers the control calls."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def routes(self) -> list[Route]:
        """The paths."""
        return [
            Route("/control/health", self.health, methods=["GET"]),
            Route("/control/ledger", self.ledger, methods=["GET"]),
            Route("/control/faults", self.faults, methods=["GET", "POST", "DELETE"]),
            Route("/control/settings", self.settings, methods=["GET", "POST"]),
            Route("/control/clock", self.clock, methods=["GET", "POST"]),
            Route("/control/publish", self.publish, methods=["POST"]),
            Route("/control/reset", self.reset, methods=["POST"]),
        ]

    async def health(self, _request: Request) -> Response:
        """Whether it is up."""
        return json_answer({"status": "ok", "created": self._simulation.predictions.count})

    async def ledger(self, request: Request) -> Response:
        """The ledger of calls and predictions; `?summary=1` leaves out the list of creates."""
        simulation = self._simulation
        summary = request.query_params.get("summary", "0") not in ("", "0")
        now, struck = simulation.clock.now(), simulation.faults.struck
        return json_answer(
            simulation.ledger.body(simulation.predictions, simulation.uploads, now, struck, summary=summary)
        )

    async def faults(self, request: Request) -> Response:
        """POST arms faults, DELETE disarms all; both answer what is armed."""
        if request.method == "DELETE":
            self._simulation.faults.clear()
        elif request.method == "POST":
            self._simulation.faults.arm(await _body(request))
        return json_answer(self._simulation.faults.armed())

    async def settings(self, request: Request) -> Response:
        """POST changes settings; answers all of them."""
        if request.method == "POST":
            self._simulation.change(await _body(request))
        return json_answer(dataclasses.asdict(self._simulation.settings))

    async def clock(self, request: Request) -> Response:
        """POST `{"advance": seconds}` moves the simulator's clock; answers its time."""
        if request.method == "POST":
            self._simulation.clock.ahead += float((await _body(request)).get("advance", 0))
        return json_answer({"now": self._simulation.clock.now(), "ahead": self._simulation.clock.ahead})

    async def publish(self, request: Request) -> Response:
        """POST `{"model": "owner/name"}` publishes a new version of a model; answers its id."""
        return json_answer({"version": self._simulation.versions.publish(str((await _body(request)).get("model")))})

    async def reset(self, _request: Request) -> Response:
        """Forget everything."""
        self._simulation.reset()
        return json_answer({})


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Problem(422, "a JSON object is needed")
    return body
