"""Bars in SVG, for the page of results; no library is worth its weight for these."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from benchmarks.figures import Results, Rows

WIDTH, BAR, GAP, LABEL, TITLE = 760, 16, 5, 150, 40
OURS, PEER = "#2563eb", "#9ca3af"
PANELS = (
    ("instant", "rate", "Predictions a second, 100 KiB each, instant model", ",.0f"),
    ("instant", "cpu_ms", "CPU per prediction, ms (less is better)", ".1f"),
    ("bytes", "mb_s", "MB/s to disk, 1,200 files of 2 MiB", ",.0f"),
    ("two-seconds", "wall", "Seconds for 2,000 predictions of 2 s (less is better)", ".1f"),
)
_STYLE = "text{font:12px system-ui,sans-serif;fill:#374151}.title{font-weight:600;font-size:13px}"


def chart(results: Results) -> str:
    """A panel for each of the essential figures that was measured."""
    parts: list[str] = []
    top = 10
    for measurement, name, title, form in PANELS:
        if rows := results.get(measurement):
            parts.append(f'<text class="title" x="10" y="{top + 18}">{escape(title)}</text>')
            parts.extend(_bars(rows, name, form, top + TITLE - 10))
            top += TITLE + len(rows) * (BAR + GAP)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}">'
    background = f'<rect width="{WIDTH}" height="{top}" fill="white"/>'
    return "\n".join([head, f"<style>{_STYLE}</style>", background, *parts, "</svg>", ""])


def _bars(rows: Rows, name: str, form: str, top: int) -> Iterator[str]:
    longest = max(row[name] for row in rows.values()) or 1.0
    for number, (who, row) in enumerate(rows.items()):
        y = top + number * (BAR + GAP)
        length = row[name] / longest * (WIDTH - LABEL - 80)
        colour = OURS if who.startswith("ours") else PEER
        yield f'<text x="10" y="{y + 12}">{escape(who)}</text>'
        yield f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" fill="{colour}"/>'
        yield f'<text x="{LABEL + length + 6:.1f}" y="{y + 12}">{row[name]:{form}}</text>'
