"""Rating, starring and rejecting results."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from jobs.batch_folder.reviews import LONGEST_REASON, Review, add_review
from jobs.dashboard.gallery.files import batch_folder
from jobs.dashboard.index.store import Item
from jobs.dashboard.pages import Dashboard


async def review(request: Request) -> Response:
    """Keep a review, and answer with the prompt's card."""
    state = request.app.state
    dashboard: Dashboard = state.dashboard
    folder = await batch_folder(dashboard, request.path_params["batch"])
    form = await request.form(max_fields=8, max_files=0)
    values = {name: str(value) for name, value in form.items()}
    async with state.indexes.use(folder.batch) as opened:
        items = await asyncio.to_thread(opened.store.items, [values.get("id", "")])
        if not items:
            raise HTTPException(404, f"Batch {folder.batch!r} has no such prompt.")
        changed = changed_review(items[0], values)
        await asyncio.to_thread(add_review, folder, changed, fsync=dashboard.config.fsync)
        await opened.refresh_reviews()
        return HTMLResponse(await asyncio.to_thread(_card, state, opened.store, folder, changed.id))


def _card(state: Any, store: Any, folder: Any, prompt_id: str) -> str:
    cards: dict[str, str] = state.gallery.cards(folder, store.items([prompt_id]), read_only=False)
    return next(iter(cards.values()))


def changed_review(item: Item, values: Mapping[str, str]) -> Review:
    """The review of a prompt after a button: pressed again, it takes back what it did. HTTPException 400."""
    rating, starred, rejected, reason = item.rating, bool(item.starred), bool(item.rejected), item.reason
    if given := values.get("rating"):
        if given not in ("1", "2", "3", "4", "5"):
            raise HTTPException(400, "A rating is from 1 to 5.")
        rating = 0 if rating == int(given) else int(given)
    elif "starred" in values:
        starred = not starred
    elif "rejected" in values:
        rejected = not rejected
    elif "reason" in values:
        reason, rejected = values["reason"].strip()[:LONGEST_REASON], True
    else:
        raise HTTPException(400, "A review has a rating, a star, or a rejection.")
    return Review(id=item.id, rating=rating, starred=starred, rejected=rejected, reason=reason if rejected else "")
