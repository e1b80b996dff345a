"""Results: rows of named figures, and the tables that show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Figures = dict[str, float]
"""By name. Seconds, unless the name says milliseconds (`_ms`); MB are 10^6 bytes."""

Rows = dict[str, Figures]
"""By candidate or case."""

Results = Mapping[str, Rows]
"""By measurement."""

Reporter = Callable[[str, Figures], None]
"""Called with each run when it is done."""

SHOWN = {
    "prompts": ("prompts", ",.0f"),
    "wall": ("wall s", ".2f"),
    "rate": ("a second", ",.0f"),
    "mb_s": ("MB/s", ",.0f"),
    "wall_ms": ("wall ms each", ".2f"),
    "cpu_ms": ("CPU ms each", ".2f"),
    "work_ms": ("after start-up", ".2f"),
    "start": ("start s", ".2f"),
    "peak_mb": ("peak MB", ",.0f"),
    "redis_mb": ("Redis MB", ",.0f"),
    "whole": ("whole", ".1%"),
    "create": ("creates", ",.0f"),
    "get": ("GETs", ",.0f"),
    "list": ("lists", ",.0f"),
    "file": ("files", ",.0f"),
    "status_reads": ("status reads each", ".2f"),
    "delay": ("delay s", ".2f"),
    "worst_delay": ("worst s", ".2f"),
    "share": ("of the limit", ".1%"),
    "pace": ("after 5 s", ".1%"),
    "throttled": ("429s", ",.0f"),
    "faults": ("faults", ",.0f"),
    "predictions": ("predictions", ",.0f"),
    "unintended": ("paid, unintended", ",.0f"),
    "server": ("server's CPU", ".0%"),
    "dashboard": ("dashboard's CPU", ".1%"),
    "sent_mb": ("MB sent to pages", ",.1f"),
    "page_mb": ("page's MB", ",.1f"),
    "paint": ("first paint s", ".2f"),
    "thumbnails": ("thumbnails/s", ",.0f"),
    "enqueue_ms": ("enqueue ms each", ".2f"),
}
"""The figures that tables show, in that order: heading and format."""


def table(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """Headings and cells; a column without figures is left out."""
    names = [name for name in SHOWN if any(name in figures for figures in rows.values())]
    cells = [
        [who, *(format(figures[name], SHOWN[name][1]) if name in figures else "" for name in names)]
        for who, figures in rows.items()
    ]
    return ["", *(SHOWN[name][0] for name in names)], cells
