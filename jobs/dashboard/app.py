"""The web application: which address shows what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from jobs.dashboard import batch, metrics, overview, sign_in
from jobs.dashboard.actions import pages as actions
from jobs.dashboard.gallery import compare, files, review, thumbnails
from jobs.dashboard.gallery.gallery import Gallery
from jobs.dashboard.index.indexes import Indexes
from jobs.dashboard.live import Feeds
from jobs.dashboard.pages import Dashboard, page
from jobs.dashboard.security import METRICS, Guard
from jobs.errors import BatchError, BatchNotFound


def create_app(dashboard: Dashboard) -> Starlette:
    """The application for one dashboard; nothing is read before the first request."""
    app = Starlette(
        routes=[
            Route("/", overview.overview),
            Route("/events", overview.overview_events),
            Route("/batches/{batch}", batch.show_batch),
            Route("/batches/{batch}/compare", compare.show_comparison),
            Route("/batches/{batch}/events", batch.batch_events),
            Route("/batches/{batch}/files/{path:path}", files.show_file),
            Route("/batches/{batch}/thumbnails/{path:path}", thumbnails.show_thumbnail),
            Route("/actions/{name}", actions.ask),
            Route("/actions/{name}", actions.act, methods=["POST"]),
            Route("/batches/{batch}/actions/{name}", actions.ask),
            Route("/batches/{batch}/actions/{name}", actions.act, methods=["POST"]),
            Route("/batches/{batch}/review", review.review, methods=["POST"]),
            Route(METRICS, metrics.show_metrics),
            Route("/static/gallery.css", gallery_css),
            Route("/sign-in", sign_in.show_sign_in),
            Route("/sign-in", sign_in.sign_in, methods=["POST"]),
            Route("/sign-out", sign_in.sign_out, methods=["POST"]),
            Mount("/static", StaticFiles(directory=str(resources.files("jobs.dashboard") / "static"))),
        ],
        middleware=[Middleware(Guard, access=dashboard.access)],
        exception_handlers={BatchError: show_problem, HTTPException: show_problem},
        lifespan=_closing,
    )
    app.state.dashboard, app.state.feeds, app.state.gallery = dashboard, Feeds(), Gallery()
    app.state.indexes = Indexes(dashboard.config.dashboard_dir, dashboard.config.output_dir, dashboard.redis)
    app.state.thumbnails, app.state.statuses = thumbnails.Thumbnails(), overview.Statuses(dashboard)
    return app


@asynccontextmanager
async def _closing(app: Starlette) -> AsyncIterator[None]:
    yield
    app.state.thumbnails.close()
    app.state.indexes.close()


async def gallery_css(_: Request) -> Response:
    """The style that the dashboard shares with the gallery on disk."""
    text = (resources.files("jobs.batch_folder") / "templates" / "gallery.css").read_text(encoding="utf-8")
    return Response(text, media_type="text/css", headers={"cache-control": "no-cache"})


async def show_problem(request: Request, error: Exception) -> Response:
    """A page that says what is wrong."""
    status = error.status_code if isinstance(error, HTTPException) else 404 if isinstance(error, BatchNotFound) else 500
    detail = error.detail if isinstance(error, HTTPException) else str(error)
    return page(request, "problem.html", status=status, problem=detail)
