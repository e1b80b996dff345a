"""Two to four prompts side by side, with what differs in their inputs marked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from jobs.batch_folder.folder import Folder
from jobs.dashboard.gallery.files import batch_folder
from jobs.dashboard.gallery.gallery import Gallery, prompts_of
from jobs.dashboard.index.indexes import Indexes
from jobs.dashboard.index.store import Item, Store
from jobs.dashboard.pages import Dashboard, page
from jobs.input_files.reference import with_files
from jobs.secret_inputs import shown_input

MOST = 4
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One key of the inputs, with its value in each prompt, "" where a prompt has none."""

    key: str
    values: tuple[str, ...]
    differs: bool


async def show_comparison(request: Request) -> Response:
    """Answer with the page; 404 for a prompt that the batch does not have."""
    dashboard: Dashboard = request.app.state.dashboard
    folder = await batch_folder(dashboard, request.path_params["batch"])
    ids = list(dict.fromkeys(request.query_params.getlist("id")))
    if not 2 <= len(ids) <= MOST:
        raise HTTPException(400, f"Pick two to {MOST} prompts to compare them.")
    indexes: Indexes = request.app.state.indexes

    def find(store: Store) -> list[Item]:
        return store.items(ids)

    items = await indexes.ask(folder.batch, find)
    if len(items) < len(ids):
        raise HTTPException(404, f"Batch {folder.batch!r} does not have all of these prompts.")
    read_only = dashboard.access.read_only
    cards, rows = await asyncio.to_thread(_read, request.app.state.gallery, folder, items, read_only=read_only)
    base, path = f"/batches/{quote(folder.batch)}", folder.path.absolute()
    return page(request, "compare.html", batch=folder.batch, base=base, folder=path, cards=cards, rows=rows)


def _read(
    gallery: Gallery, folder: Folder, items: list[Item], *, read_only: bool
) -> tuple[dict[str, str], list[Difference]]:
    prompts = [prompt for prompt in prompts_of(folder, items) if prompt]
    inputs = [{"model": one.model, **with_files(shown_input(one.input), lambda file: file.path)} for one in prompts]
    return gallery.cards(folder, items, read_only=read_only), differences(inputs)


def differences(inputs: Sequence[dict[str, Any]]) -> list[Difference]:
    """The keys of inputs in their order, those that differ first."""
    keys = dict.fromkeys(key for values in inputs for key in values)
    rows = [_difference(key, [values.get(key, _MISSING) for values in inputs]) for key in keys]
    return sorted(rows, key=lambda row: not row.differs)


def _difference(key: str, values: Sequence[Any]) -> Difference:
    texts = tuple("" if value is _MISSING else _text(value) for value in values)
    differs = len({(value is _MISSING, text) for value, text in zip(values, texts, strict=True)}) > 1
    return Difference(key, texts, differs)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
