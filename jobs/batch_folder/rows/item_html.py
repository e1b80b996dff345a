"""The gallery's templates, and what a page has of one prompt."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.batch_folder.gallery_items import GalleryItem
from jobs.prices.money import money
from jobs.text import size_text

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def templates() -> Environment:
    """The environment of the templates."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - a worker starts faster without

    found = Environment(
        loader=PackageLoader("jobs.batch_folder"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(template_filters())
    return found


@cache
def _item_macro() -> Callable[[GalleryItem], str]:
    macro: Callable[[GalleryItem], str] = templates().get_template("item.html").module.item  # type: ignore[attr-defined]
    return macro


def render_item(item: GalleryItem) -> str:
    """The HTML of one prompt."""
    return str(_item_macro()(item))


def item_source() -> bytes:
    """The template of an item."""
    return Path(__file__).parents[1].joinpath("templates", "item.html").read_bytes()


def template_filters() -> dict[str, Callable[..., str]]:
    """How sizes, times and amounts read in templates."""
    return {"size": size_text, "moment": _moment, "span": _span, "money": money, "count": lambda number: f"{number:,}"}


def _moment(timestamp: str) -> str:
    return timestamp[:19].replace("T", " ")


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min {rest:02} s"
