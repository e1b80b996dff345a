"""`python -m benchmarks run WORKLOAD…`: run contenders in turn, print medians."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import CONTENDERS
from benchmarks.runs import Run, interleaved
from benchmarks.workloads import WORKLOADS

COLUMNS = {
    "wall": ".2f",
    "rate": ".0f",
    "mb_s": ".0f",
    "cpu_ms": ".2f",
    "start_cpu": ".2f",
    "start_wall": ".2f",
    "peak_mb": ".0f",
    "whole": ".1%",
    "creates": ".0f",
    "gets": ".0f",
    "lists": ".0f",
    "files": ".0f",
    "status_reads": ".2f",
    "delay_mean": ".2f",
    "server_share": ".2f",
    "enqueue_cpu": ".2f",
}
console = Console(width=180, highlight=False)


def main() -> None:
    """Read the command line and run."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks")
    commands = flags.add_subparsers(required=True, dest="command")
    run = commands.add_parser("run", help="run some workloads and print the medians")
    run.add_argument("workloads", nargs="+", choices=WORKLOADS, metavar="WORKLOAD", help=", ".join(WORKLOADS))
    run.add_argument("--only", help=f"contenders, by comma: {', '.join(CONTENDERS)}")
    run.add_argument("--repetitions", type=int, default=3)
    run.add_argument("--share", type=float, default=1.0, help="of the workload's prompts")
    run.add_argument("--json", action="store_true", help="print the medians as JSON")
    given = flags.parse_args()
    for name in given.workloads:
        workload = WORKLOADS[name].shorter(given.share)
        chosen = given.only.split(",") if given.only else workload.contenders
        medians = interleaved(workload, chosen, given.repetitions, tell)
        if given.json:
            print(json.dumps({who: asdict(median) for who, median in medians.items()}))  # noqa: T201 - for scripts
        else:
            show(f"{name}: {workload.prompts} prompts, medians of {given.repetitions}", medians)


def tell(who: str, run: Run) -> None:
    """One line as soon as a run is done."""
    console.print(f"  {who:18} {run.wall:7.2f} s  {run.rate:7.1f}/s  {run.cpu_ms:6.2f} ms CPU each")


def show(title: str, medians: dict[str, Run]) -> None:
    """A row for each contender."""
    table = Table("", *COLUMNS, title=title, title_justify="left", box=None, pad_edge=False)
    for who, run in medians.items():
        table.add_row(who, *(format(getattr(run, name), form) for name, form in COLUMNS.items()))
    console.print(table)


if __name__ == "__main__":
    main()
