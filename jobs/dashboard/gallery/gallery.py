"""The prompts of a page of a batch's gallery: laid out once, however often and by whomever they are looked at."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.gallery_items import lay_out
from jobs.batch_folder.prompts_copy import parse_prompt
from jobs.batch_folder.rows.result_line import damaged_result
from jobs.dashboard.index.store import Item
from jobs.dashboard.pages import render
from jobs.errors import DamagedRecord, StorageError
from jobs.wire import Prompt, Result

MOST_KEPT = 5_000
"""Prompts whose HTML is kept: about 20 megabytes."""


class Look(NamedTuple):
    """What the HTML of a prompt depends on."""

    batch_id: str | None
    item: Item
    read_only: bool


@dataclass(frozen=True, slots=True)
class Links:
    """The addresses of a prompt's files; they change with the files, so that browsers may keep these."""

    base: str
    version: int

    def file(self, path: str) -> str:
        """Of a whole file; the path is percent-encoded."""
        return f"{self.base}/files/{path}?v={self.version}"

    def picture(self, path: str) -> str:
        """Of what stands in the gallery: a thumbnail, but for drawings."""
        return self.file(path) if path.lower().endswith(".svg") else f"{self.base}/thumbnails/{path}?v={self.version}"


class Gallery:
    """Prompts as HTML."""

    def __init__(self) -> None:
        self._kept = OrderedDict[Look, str]()

    def cards(self, folder: Folder, items: Iterable[Item], *, read_only: bool) -> dict[str, str]:
        """The HTML of prompts by the ids of their elements. Reads files; StorageError when the copy cannot be read."""
        batch_id = folder.batch_id()  # another batch of that name may have taken its place
        looks = [Look(batch_id, item, read_only) for item in items]
        missing = [look for look in looks if look not in self._kept]
        for look, prompt in zip(missing, prompts_of(folder, [look.item for look in missing]), strict=True):
            self._kept[look] = _card(folder, look, prompt)
        cards = {f"p{look.item.position}": self._kept[look] for look in looks}
        for look in looks:
            self._kept.move_to_end(look)
        while len(self._kept) > max(MOST_KEPT, len(looks)):
            self._kept.popitem(last=False)
        return cards


def pictures(folder: Folder, items: Iterable[Item]) -> list[tuple[str, str]]:
    """The address of the first picture of each prompt that has one, and what it shows."""
    found = []
    for item, prompt in zip(items := list(items), prompts_of(folder, items), strict=True):
        result = _result(folder, prompt) if prompt else None
        if prompt and result:
            card, links = lay_out(folder, prompt, result), Links(f"/batches/{quote(folder.batch)}", item.saved_at or 0)
            first = next((preview for preview in card.previews if preview.kind == "image" and preview.source), None)
            found += [(links.picture(first.source), card.prompt)] if first and first.source else []
    return found


def with_headings(cards: Mapping[str, str], items: Sequence[Item], base: str) -> dict[str, str]:
    """The cards with a heading before the first of several variants of one row."""
    counts = Counter(item.matrix for item in items)
    found: dict[str, str] = {}
    for item in items:
        heading = f"m{item.matrix}"
        if counts[item.matrix] > 1 and heading not in found:
            found[heading] = render("heading.html", matrix=item.matrix, shown=counts[item.matrix], base=base)
        found[f"p{item.position}"] = cards[f"p{item.position}"]
    return found


def prompts_of(folder: Folder, items: list[Item]) -> Iterator[Prompt | None]:
    """The prompts of items, read at their places; None where the copy was replaced meanwhile."""
    if not items:
        return
    try:
        with folder.prompts.open("rb") as lines:
            for item in items:
                lines.seek(item.start)
                yield _prompt(item, lines.read(item.length))
    except OSError as error:
        raise StorageError(f"{folder.prompts} cannot be read: {error.strerror or error}", folder.prompts) from error


def _prompt(item: Item, line: bytes) -> Prompt | None:
    try:
        prompt = parse_prompt(item.position, line)
    except ValueError:
        return None
    return prompt if prompt.id == item.id else None


def _card(folder: Folder, look: Look, prompt: Prompt | None) -> str:
    if prompt is None:
        return render("card_missing.html", item=look.item)
    result = _result(folder, prompt) if look.item.state != "waiting" else None
    return render(
        "card.html",
        item=lay_out(folder, prompt, result),
        look=look.item,
        links=Links(f"/batches/{quote(folder.batch)}", look.item.saved_at or 0),
        read_only=look.read_only,
    )


def _result(folder: Folder, prompt: Prompt) -> Result | None:
    try:
        return folder.read_record(prompt.id)
    except DamagedRecord as error:
        return damaged_result(prompt, error)
