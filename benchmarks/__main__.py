"""`python -m benchmarks`: `run NAME…` and `quick` print tables, `all` also writes docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Collection, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.candidates import CANDIDATES
from benchmarks.measurements import MEASUREMENTS, Choice
from benchmarks.page import PAGE, describe_machine, write
from benchmarks.results import Figures, Results, table
from benchmarks.targets import HEADINGS, lines

console = Console(width=220, highlight=False)


def main() -> None:
    """Read the command line and run."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks")
    commands = flags.add_subparsers(required=True, dest="command")
    run = commands.add_parser("run", help="some measurements; prints medians")
    run.add_argument("names", nargs="+", choices=MEASUREMENTS, metavar="NAME", help=", ".join(MEASUREMENTS))
    run.add_argument("--only", help=f"candidates, by comma: {', '.join(CANDIDATES)}")
    run.add_argument("--repetitions", type=int)
    run.add_argument("--share", type=float, help="share of the prompts to run, 0 to 1")
    run.add_argument("--json", action="store_true", help="print the medians as JSON")
    commands.add_parser("quick", help="the essential ratios, in two minutes")
    commands.add_parser("all", help="everything, in half an hour; writes docs/benchmarks.md")
    given = flags.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left behind
    {"run": _run, "quick": _quick, "all": _all}[given.command](given)


def _run(given: argparse.Namespace) -> None:
    only = tuple(given.only.split(",")) if given.only else None
    choice = Choice(only=only, repetitions=given.repetitions, share=given.share)
    results = measure(given.names, choice)
    if given.json:
        print(json.dumps(results))
    _check(results, given.names)


def _quick(_: argparse.Namespace) -> None:
    names = [one.name for one in MEASUREMENTS.values() if one.quick]
    _check(measure(names, Choice(quick=True)), names)


def _all(_: argparse.Namespace) -> None:
    machine = describe_machine()
    results = measure(list(MEASUREMENTS), Choice())
    write(results, machine, "make bench")
    console.print(f"Written: {PAGE}")
    _check(results, MEASUREMENTS)


def _check(results: Results, names: Collection[str]) -> None:
    """Exit code 1 if a measurement failed; a missed target does not count."""
    if len(results) < len(names):
        sys.exit(1)


def measure(names: Sequence[str], choice: Choice) -> Results:
    """Measure, show each table when it is done, and the targets last."""
    results = {}
    for name in names:
        console.print(f"[bold]{name}[/]: {MEASUREMENTS[name].title}")
        try:
            results[name] = MEASUREMENTS[name].measure(choice, report_run)
        except RuntimeError as error:  # the others are still worth measuring
            console.print(f"[red]{name} failed:[/] {escape(str(error))}")
            continue
        show_table(*table(results[name]))
    show_table(HEADINGS, list(lines(results)))
    return results


def report_run(who: str, figures: Figures) -> None:
    """Print one line for a run that is done."""
    shown = ", ".join(f"{name} {figures[name]:.4g}" for name in ("wall", "rate", "mb_s", "cpu_ms") if name in figures)
    console.print(f"  {who:18} {shown}")


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, unless it is empty."""
    if not rows:
        return
    shown = Table(*headings, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        shown.add_row(*row)
    console.print(shown, "")


if __name__ == "__main__":
    main()
