"""The page of a batch: how it stands, what failed and why, and its gallery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import quote, urlencode

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.manifest import read_manifest
from jobs.catalog.models_file import read_models
from jobs.dashboard.chart import Chart, choose_span, draw, first_start
from jobs.dashboard.gallery.files import batch_folder
from jobs.dashboard.gallery.gallery import Gallery, with_headings
from jobs.dashboard.index.filters import Filter
from jobs.dashboard.index.indexes import Indexes, Opened
from jobs.dashboard.index.store import Order, Store
from jobs.dashboard.live import Feeds, Part, Parts
from jobs.dashboard.pages import Dashboard, outage, page, render
from jobs.errors import BatchError, BatchNotFound
from jobs.operations.operations import Operations
from jobs.wire import Status

PAGE_SIZE = 100
GROUPS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class View:
    """What a page of a batch shows: a filter, an order, and a page from 1."""

    chosen: Filter
    order: Order
    number: int

    @classmethod
    def read(cls, values: Mapping[str, str]) -> View:
        """Read it from a page's address; what is not known there is left out."""
        order, number = values.get("order", ""), values.get("page", "")
        known: Any = order if order in get_args(Order) else "file"
        return cls(Filter.read(values), known, max(int(number[:9]), 1) if number.isdecimal() else 1)

    def query(self, number: int | None = None, **changes: Any) -> str:
        """The query of an address that shows the same, but for the page and these values of the filter."""
        order = changes.pop("order", self.order)
        chosen = self.chosen.but(**changes)
        more = urlencode({**({"order": order} if order != "file" else {}), **({"page": number} if number else {})})
        return "&".join(filter(None, [chosen, more]))


async def show_batch(request: Request) -> Response:
    """Answer with the page."""
    batch, view = await _asked(request)
    parts = await batch_parts(request.app.state, batch, view)
    folder = request.app.state.dashboard.config.output_dir.absolute() / batch
    return page(
        request, "batch.html", batch=batch, view=view, parts=parts, base=f"/batches/{quote(batch)}", folder=folder
    )


async def batch_events(request: Request) -> Response:
    """Answer with the events that keep it current."""
    batch, view = await _asked(request)
    feeds: Feeds = request.app.state.feeds

    async def parts() -> Parts:
        try:
            return await batch_parts(request.app.state, batch, view)
        except BatchError as error:  # the folder is gone, say
            return {"outage": outage(error)}

    return await feeds.respond(request, f"{batch}?{view.query(view.number)}", parts)


async def _asked(request: Request) -> tuple[str, View]:
    folder = await batch_folder(request.app.state.dashboard, request.path_params["batch"])
    return folder.batch, View.read(request.query_params)


async def batch_parts(state: Any, batch: str, view: View) -> Parts:
    """The parts of the page as they are now; while Redis is away, what the folder tells."""
    dashboard: Dashboard = state.dashboard
    status, error = await _status(dashboard, batch)
    indexes: Indexes = state.indexes
    async with indexes.use(batch) as opened:
        folder_parts = await asyncio.to_thread(_folder_parts, state, opened, view)
        events = await opened.events.last(opened.folder, None if error else dashboard.redis)
    base = f"/batches/{quote(batch)}"
    summary = render("summary.html", status=status, batch=batch, is_whole=opened.is_whole)
    actions = render("actions.html", status=status, base=base, view=view, read_only=dashboard.access.read_only)
    log = render("log.html", events=events)
    about = render("about.html", status=status, pins=await asyncio.to_thread(_pins, opened.folder))
    return {"outage": outage(error), "summary": summary, "actions": actions, **folder_parts, "log": log, "about": about}


def _pins(folder: Folder) -> list[str]:
    """The models of a batch, at the versions that it keeps; what is wrong with the file that has them."""
    try:
        return sorted(model.pinned for model in read_models(folder).values())
    except BatchError as error:
        return [str(error)]


async def _status(dashboard: Dashboard, batch: str) -> tuple[Status | None, RedisError | None]:
    """What Redis knows of a batch, and what is wrong if it does not answer."""
    try:
        return await Operations(dashboard.config, dashboard.redis).status(batch), None
    except BatchNotFound:
        return None, None
    except RedisError as error:
        return None, error


def _begun(opened: Opened) -> float | None:
    manifest = read_manifest(opened.folder)
    return manifest.created_at if manifest else None


def _folder_parts(state: Any, opened: Opened, view: View) -> dict[str, Part]:
    store, base = opened.store, f"/batches/{quote(opened.folder.batch)}"
    counts = store.counts(view.chosen)
    chosen = view.chosen.state
    shown = counts.get(chosen, 0) if chosen else sum(counts.values())
    pages = max(1, -(-shown // PAGE_SIZE))
    items = store.find(view.chosen, view.order, (view.number - 1) * PAGE_SIZE, PAGE_SIZE)
    gallery: Gallery = state.gallery
    around: dict[str, Any] = {"base": base, "view": view}
    cards = gallery.cards(opened.folder, items, read_only=state.dashboard.access.read_only)
    return {
        "chips": render("chips.html", counts=counts, models=store.models(), shown=shown, **around),
        "failures": render("failures.html", groups=store.failures(GROUPS_SHOWN), **around),
        "chart": render("chart.html", chart=_chart(store, _begun(opened)), **around),
        "pages": render("pages.html", pages=pages, **around),
        "items": with_headings(cards, items, base) if view.order == "file" and not view.chosen.matrix else cards,
    }


def _chart(store: Store, begun: float | None) -> Chart:
    """The time since the batch began, or until its last result when none is missing."""
    until = time.time() if store.counts(Filter()).get("waiting") else (store.last_saved() or time.time())
    span = choose_span(until - begun if begun else 0)
    return draw(store.minutes(first_start(span, until), span), span, until)
