"""The web application: which address shows what."""

from __future__ import annotations

from importlib.resources import files

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from jobs.dashboard import overview, sign_in
from jobs.dashboard.live import Feeds
from jobs.dashboard.pages import Dashboard
from jobs.dashboard.security import Guard


def create_app(dashboard: Dashboard) -> Starlette:
    """The application for one dashboard; nothing is read before the first request."""
    app = Starlette(
        routes=[
            Route("/", overview.overview),
            Route("/events", overview.overview_events),
            Route("/sign-in", sign_in.show_sign_in),
            Route("/sign-in", sign_in.sign_in, methods=["POST"]),
            Route("/sign-out", sign_in.sign_out, methods=["POST"]),
            Mount("/static", StaticFiles(directory=str(files("jobs.dashboard") / "static"))),
        ],
        middleware=[Middleware(Guard, access=dashboard.access)],
    )
    app.state.dashboard, app.state.feeds = dashboard, Feeds()
    return app
