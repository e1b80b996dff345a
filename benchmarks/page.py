"""docs/benchmarks.md: what a user feels, peers, what was missed, then all figures and how they came about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.chart import chart
from benchmarks.figures import Results, table
from benchmarks.measurements import MEASUREMENTS
from benchmarks.processes import ROOT
from benchmarks.targets import HEADINGS, lines

PAGE = ROOT / "docs" / "benchmarks.md"
NOTES = "## Notes\n"
"""From here on the page is written by hand, and kept."""

METHOD = """\
All of it on one machine over loopback, against a stand-in for the API; nothing was run against Replicate. Only ratios
within one run count: they are medians of three, the contenders taking turns. `ours` is one worker at its defaults
(1,000 in flight), `ours-100` has 100 in flight as the peers have; both are durable, `-nofsync` is `BATCH_FSYNC=false`.
The official client (replicate 1.0.7) polls every 0.5 s and streams its `FileOutput` to disk; `httpx` and `aiohttp`
poll alike and write 64 KiB at a time; `curl` only fetches the files. No peer checks, records or resumes anything.
CPU is user and system time of the client's process from its start to its end; enqueuing, Redis and the server are not
in it. Wall is from the first create, as the server sees it, until the last file of ours (results and gallery) is
written, or the peer has ended. Delay is from a prediction's end until its first file is asked for.
"""


def write(results: Results, place: Mapping[str, str], command: str) -> None:
    """Write page and chart; the notes stay as they are."""
    kept = PAGE.read_text("utf-8").partition(NOTES)[2] if PAGE.exists() else "\n"
    PAGE.write_text("\n".join(_page(results, place, command)) + NOTES + kept, "utf-8")
    PAGE.with_suffix(".svg").write_text(chart(results), "utf-8")


def _page(results: Results, place: Mapping[str, str], command: str) -> Iterator[str]:
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
    yield from ("## How it was measured", "", *(f"- {name}: {value}" for name, value in place.items()), "", METHOD)
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
