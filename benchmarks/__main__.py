"""`python -m benchmarks run NAME…` prints tables."""

from __future__ import annotations

import argparse
import json

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import CONTENDERS
from benchmarks.figures import Figures, Rows, table
from benchmarks.measurements import MEASUREMENTS, Choice

console = Console(width=180, highlight=False)


def main() -> None:
    """Read the command line and run."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks")
    commands = flags.add_subparsers(required=True, dest="command")
    run = commands.add_parser("run", help="some measurements; prints medians")
    run.add_argument("names", nargs="+", choices=MEASUREMENTS, metavar="NAME", help=", ".join(MEASUREMENTS))
    run.add_argument("--only", help=f"contenders, by comma: {', '.join(CONTENDERS)}")
    run.add_argument("--repetitions", type=int)
    run.add_argument("--share", type=float, help="of the prompts, 0 to 1")
    run.add_argument("--json", action="store_true", help="print the medians as JSON")
    given = flags.parse_args()
    only = tuple(given.only.split(",")) if given.only else None
    choice = Choice(only=only, repetitions=given.repetitions, share=given.share)
    for name in given.names:
        rows = MEASUREMENTS[name].measure(choice, tell)
        if given.json:
            print(json.dumps({name: rows}))  # noqa: T201 - for scripts
        else:
            show(f"{name}: {MEASUREMENTS[name].title}", rows)


def tell(who: str, figures: Figures) -> None:
    """One line as soon as a run is done."""
    shown = ", ".join(f"{name} {figures[name]:.4g}" for name in ("wall", "rate", "mb_s", "cpu_ms") if name in figures)
    console.print(f"  {who:18} {shown}")


def show(title: str, rows: Rows) -> None:
    """A row for each contender or case."""
    headings, cells = table(rows)
    shown = Table(*headings, title=title, title_justify="left", box=None, pad_edge=False)
    for row in cells:
        shown.add_row(*row)
    console.print(shown)


if __name__ == "__main__":
    main()
