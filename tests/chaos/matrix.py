"""The matrix: a row for each case, printed after a run and written as Markdown for RELIABILITY.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

PROPERTY = "chaos"
COLUMNS = {
    "case": "case",
    "done": "kills or faults",
    "prompts": "prompts",
    "lost": "lost",
    "paid_twice": "paid twice",
    "unknown": "unknown creates",
    "unclaimed": "of them paid",
    "orphans": "late answers canceled",
    "uploads": "uploads",
    "uploads_left": "of them left",
    "taken_over": "taken over, s",
    "finished": "finished, s",
    "seed": "seed",
    "notes": "notes",
}
LEGEND = """\
lost: prompts without exactly one whole result, or with files other than those served
paid twice: predictions that no result names and no unknown create accounts for, or that two results name, and second
  successes of a prompt whose first was not lost at Replicate
unknown creates: creates that were never answered and that nobody found, so that they were repeated
of them paid: those that had created a prediction after all, which the list did not show in time
late answers canceled: predictions that came after their create had been replaced, and were canceled at Replicate
uploads: of the six local files that every seventh input names; of them left: neither deleted nor expired at the end
taken over, finished: seconds from the last fault, or from its end, until a live worker held each queued shard, and
  until the batch was finished, including the start of a new worker
short lease: 1.5 s instead of 15; short search: a create is unknown after 6 s instead of 60
"""
Row = dict[str, Any]


def rows_of(stats: dict[str, Sequence[Any]]) -> list[Row]:
    """The rows that cases recorded, from pytest's reports; a failed case says so."""
    rows = []
    for verdict in ("passed", "failed", "error"):
        for report in stats.get(verdict, ()):
            for name, row in getattr(report, "user_properties", ()):
                if name == PROPERTY and (report.when == "call" or verdict != "passed"):
                    rows.append(row | ({} if verdict == "passed" else {"case": f"{row['case']} FAILED"}))
    return sorted(rows, key=lambda row: row["order"])


def text(rows: Iterable[Row]) -> list[str]:
    """The matrix in columns for a terminal."""
    table = [list(COLUMNS.values()), *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(COLUMNS))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table)
    return [*(line.rstrip() for line in lines), *LEGEND.splitlines()]


def markdown(rows: Iterable[Row]) -> str:
    """The matrix as a table of Markdown."""
    lines = [list(COLUMNS.values()), ["---"] * len(COLUMNS), *(_cells(row) for row in rows)]
    table = "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)
    return table + "\n" + "- " + LEGEND.strip().replace("\n", "\n- ").replace("\n-   ", " ") + "\n"


def write(rows: Iterable[Row], path: Path) -> None:
    path.write_text(markdown(rows), encoding="utf-8")


def _cells(row: Row) -> list[str]:
    return [str(row[name]) for name in COLUMNS]
