"""A batch's folder → index.html, index-2.html …: a contact sheet that needs no network and runs no script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.batch_folder.atomic_files import replacing
from jobs.batch_folder.folder import Folder
from jobs.batch_folder.gallery_items import GalleryItem, lay_out
from jobs.batch_folder.manifest import read_manifest
from jobs.batch_folder.prompts_copy import count_rows
from jobs.batch_folder.results import Row, Totals, records
from jobs.prices.money import money
from jobs.wire import Result, timestamp

if TYPE_CHECKING:
    from jinja2 import Template

PAGE_SIZE = 200
FAILURES_SHOWN = 100
_NAVIGATION = 2
"""Page numbers on either side of the current one; the first and the last are always there."""


@dataclass(frozen=True, slots=True)
class Miss:
    """A prompt without an output, in the list on top of the first page."""

    index: int
    id: str
    page: int
    kind: str
    message: str


@dataclass(slots=True)
class Summary:
    """What the first page shows of the whole batch; collected while the other pages are written."""

    totals: Totals = field(default_factory=Totals)
    misses: list[Miss] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    saved_at: str = ""

    def add(self, index: int, result: Result | None) -> None:
        """Count one prompt; the first failures are kept by name, all of them by kind."""
        self.totals.count(result)
        if result is None:
            return
        self.saved_at = max(self.saved_at, result.saved_at or "")
        if result.status != "succeeded":
            kind = result.error.kind if result.error else result.status
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            if len(self.misses) < FAILURES_SHOWN:
                message = result.error.message if result.error else ""
                self.misses.append(Miss(index, result.id, index // PAGE_SIZE + 1, kind, message[:300]))


def write_gallery(folder: Folder, rows: Iterable[Row] | None = None, *, fsync: bool) -> Path:
    """Write the gallery of the results so far, or of these rows, which are all; returns its first page.

    Pages are written one by one and the first one last, because it sums up all the others.
    Raises StorageError when a record cannot be read or a page cannot be written, ForeignFolder when it is no batch's.
    """
    manifest = read_manifest(folder)
    about = {
        "batch": folder.batch,
        "created_at": timestamp(manifest.created_at) if manifest else None,
        "pages": max(1, -(-count_rows(folder) // PAGE_SIZE)),
    }
    summary = Summary()
    pages = _pages(folder, summary, records(folder) if rows is None else rows)
    first = next(pages, [])
    for number, items in enumerate(pages, 2):
        _write(folder, about | {"items": items, "page": number, "summary": None}, fsync=fsync)
    _write(folder, about | {"items": first, "page": 1, "summary": summary}, fsync=fsync)
    return folder.gallery


def page_name(page: int) -> str:
    """The file name of a page, from 1."""
    return "index.html" if page == 1 else f"index-{page}.html"


def page_numbers(page: int, pages: int) -> list[int | None]:
    """The pages to link to from `page`; None stands for those left out."""
    shown = sorted({1, *range(max(1, page - _NAVIGATION), min(pages, page + _NAVIGATION) + 1), pages})
    numbers: list[int | None] = []
    for number in shown:
        if numbers and number - (numbers[-1] or 0) > 1:
            numbers.append(None)
        numbers.append(number)
    return numbers


def _pages(folder: Folder, summary: Summary, rows: Iterable[Row]) -> Iterator[list[GalleryItem]]:
    items = _items(folder, summary, rows)
    while page := list(islice(items, PAGE_SIZE)):
        yield page


def _items(folder: Folder, summary: Summary, rows: Iterable[Row]) -> Iterator[GalleryItem]:
    for prompt, result in rows:
        summary.add(prompt.index, result)
        yield lay_out(folder, prompt, result)


def _write(folder: Folder, page: dict[str, Any], *, fsync: bool) -> None:
    html = _template().render(page)
    with replacing(folder.path / page_name(page["page"]), fsync=fsync) as file:
        file.write(html.encode("utf-8", "replace"))


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - a worker starts faster without

    environment = Environment(
        loader=PackageLoader("jobs.batch_folder"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(page_name=page_name, page_numbers=page_numbers)
    environment.filters.update(template_filters())
    return environment.get_template("gallery.html")


def template_filters() -> dict[str, Callable[..., str]]:
    """How sizes, times and amounts read in templates."""
    return {"size": _size, "moment": _moment, "span": _span, "money": money, "count": lambda number: f"{number:,}"}


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def _moment(timestamp: str) -> str:
    return timestamp[:19].replace("T", " ")


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min {rest:02} s"
