"""The first page: what needs a person, then all batches, workers, limits and schedules."""

from __future__ import annotations

from collections.abc import Mapping

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from jobs.dashboard.live import Feeds
from jobs.dashboard.pages import Dashboard, outage, page, render
from jobs.operations.operations import Operations


async def overview(request: Request) -> Response:
    """The page itself."""
    dashboard: Dashboard = request.app.state.dashboard
    return page(request, "overview.html", parts=await overview_parts(dashboard))


async def overview_events(request: Request) -> Response:
    """The events that keep it current."""
    dashboard: Dashboard = request.app.state.dashboard
    feeds: Feeds = request.app.state.feeds
    return feeds.respond("overview", lambda: overview_parts(dashboard))


async def overview_parts(dashboard: Dashboard) -> Mapping[str, str]:
    """Its parts as they are now; while Redis is away, one that says so."""
    try:
        statuses = await Operations(dashboard.config, dashboard.redis).statuses()
    except RedisError as error:
        return {"outage": outage(error)}
    return {"outage": outage(), "batches": render("batches.html", statuses=statuses)}
