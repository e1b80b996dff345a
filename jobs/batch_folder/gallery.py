"""A batch's folder → index.html, index-2.html …: a contact sheet that needs no network and runs no script."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.batch_folder.atomic_files import replacing, storing, sync_names
from jobs.batch_folder.folder import Folder
from jobs.batch_folder.manifest import read_manifest
from jobs.batch_folder.prompts_copy import count_rows
from jobs.batch_folder.rows.item_html import templates
from jobs.batch_folder.rows.merge import merge_rows
from jobs.batch_folder.rows.row import Row
from jobs.batch_folder.rows.totals import Totals
from jobs.wire import timestamp

if TYPE_CHECKING:
    from jinja2 import Template

PAGE_SIZE = 200
FAILURES_SHOWN = 100
WRITTEN_AT_ONCE = 8
"""Pages that are written at once: each fsync waits for the disk, and those at once share a commit of its journal."""

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

    def add(self, page: list[Row]) -> None:
        """Count the prompts of a page; the first failures are kept by name, all of them by kind."""
        self.totals.add(row.counts for row in page)
        self.saved_at = max(self.saved_at, *(row.saved_at for row in page))
        for row in page:
            if row.status and row.is_unsuccessful:
                self._add_miss(row, row.kind or row.status)

    def _add_miss(self, row: Row, kind: str) -> None:
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if len(self.misses) < FAILURES_SHOWN:
            self.misses.append(Miss(row.place, row.id, row.place // PAGE_SIZE + 1, kind, row.message[:300]))


def write_gallery(folder: Folder, rows: Iterable[Row] | None = None, *, fsync: bool) -> Path:
    """Write the gallery of the results so far, or of these rows with HTML, which are all; returns its first page.

    The first page is written last, because it sums up all the others. Pages that have not changed are left alone.
    Raises StorageError when a record cannot be read or a page cannot be written, ForeignFolder when it is no batch's.
    """
    manifest = read_manifest(folder)
    about = {
        "batch": folder.batch,
        "created_at": timestamp(manifest.created_at) if manifest else None,
        "pages": max(1, -(-count_rows(folder) // PAGE_SIZE)),
    }
    summary = Summary()
    pages = _pages(summary, merge_rows(folder, with_html=True, strict=True) if rows is None else rows)
    first = next(pages, [])
    with _writing_pages(folder, fsync=fsync) as write:
        for number, items in enumerate(pages, 2):
            write(about | {"items": items, "page": number, "summary": None})
        write(about | {"items": first, "page": 1, "summary": summary})
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


def _pages(summary: Summary, rows: Iterable[Row]) -> Iterator[list[str]]:
    from markupsafe import Markup  # noqa: PLC0415 - a worker starts faster without

    left = iter(rows)
    while page := list(islice(left, PAGE_SIZE)):
        summary.add(page)
        yield [Markup(row.html) for row in page]  # noqa: S704 - rendered by the template of an item


@contextmanager
def _writing_pages(folder: Folder, *, fsync: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield what renders a page and has it written; all of them are on the disk when the block ends."""
    writing: deque[Future[None]] = deque()
    with ThreadPoolExecutor(WRITTEN_AT_ONCE, "gallery") as threads:

        def write(page: dict[str, Any]) -> None:
            html = _template().render(page).encode("utf-8", "replace")
            if len(writing) == 2 * WRITTEN_AT_ONCE:
                writing.popleft().result()
            writing.append(threads.submit(_replace, folder.path / page_name(page["page"]), html, fsync=fsync))

        yield write
        for one in writing:
            one.result()
    with storing(folder.path):
        sync_names(folder.path, fsync=fsync)


def _replace(path: Path, content: bytes, *, fsync: bool) -> None:
    """Write a page unless it is there already."""
    with storing(path):
        if path.is_file() and path.read_bytes() == content:
            return
    with replacing(path, fsync=fsync, sync_name=False) as file:
        file.write(content)


@cache
def _template() -> Template:
    environment = templates()
    environment.globals.update(page_name=page_name, page_numbers=page_numbers)
    return environment.get_template("gallery.html")
