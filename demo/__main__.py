"""`python -m demo`: exit code 0 when all went as planned, 1 when not, 130 when it was stopped."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from types import FrameType

from demo.environment import PORT, batch_name, default, environment, find_free_port, is_finished, remove_interrupted
from demo.plan import PROMPTS, SPECIAL, deviations, outcome_of, plan_of
from jobs.batch_folder.folder import Folder
from jobs.cli.tables import Column, Columns
from jobs.operations.report import count_text
from jobs.printer import Printer
from jobs.wire import Result
from simulator.process import RunningSimulator, running

STOPPED = 130
START_OVER = "To start over: rm -rf {}; make demo"


def main() -> int:
    """Run the demo against a simulator of its own."""
    flags = argparse.ArgumentParser(prog="python -m demo", description=main.__doc__)
    flags.add_argument(
        "--port", type=int, default=PORT, help="the simulator's; another one if taken (default: %(default)s)"
    )
    flags.add_argument("more", nargs="*", metavar="-- FLAG", help="flags of the simulator: -- --fault=lost_answer=0.1")
    given = flags.parse_args()
    printer = Printer()
    try:
        with running(f"--port={find_free_port(given.port)}", *given.more, seed=7) as simulator:
            return run_demo(simulator, printer)
    except KeyboardInterrupt:
        return STOPPED


def run_demo(simulator: RunningSimulator, printer: Printer) -> int:
    """Run the batch, compare it with the plan, say so; returns the exit code."""
    env = environment(simulator)
    folder = Folder(default("output_dir"), batch_name(simulator))
    printer.lines([f"A simulator of Replicate's API is up at {simulator.url}; nothing leaves this machine."])
    again = is_finished(folder)
    if not again and remove_interrupted(folder, env):
        printer.lines(["An earlier demo was interrupted; this one starts over."])
    code = run([sys.executable, "-m", "jobs", "run", str(PROMPTS), "--name", folder.batch], env)
    if code not in (0, 1) or not is_finished(folder):
        cure = "make demo starts it over." if code == STOPPED else START_OVER.format(folder.path)
        printer.lines([f"The demo was not finished. {cure}"])
        return code or 1
    with folder.results.open(encoding="utf-8") as lines:
        results = [Result.model_validate_json(line) for line in lines]
    return print_outcome(results, folder, simulator.ledger(summary=True)["created"], again=again, printer=printer)


def run(command: list[str], env: Mapping[str, str]) -> int:
    """Run a command in the foreground. Ctrl-C reaches it by itself; SIGTERM is passed on: it ends in its own way."""
    with subprocess.Popen(command, env=env) as child:  # noqa: S603 - our own command

        def pass_on(number: int, _frame: FrameType | None) -> None:
            if number == signal.SIGTERM:
                child.terminate()

        former = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return child.wait()
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def print_outcome(results: list[Result], folder: Folder, created: int, *, again: bool, printer: Printer) -> int:
    """Print what was planned beside what happened; returns the exit code."""
    expected = 0 if again else sum(result.attempts for result in results)
    printer.print()
    printer.show(comparison(results, created, expected))
    printer.print()
    if problems := list(deviations(results, folder, created, expected)):
        printer.lines([*(f"Not as planned: {problem}" for problem in problems), START_OVER.format(folder.path)])
        return 1
    verdict = "All was done already: nothing was created, nothing spent." if again else "All went as planned."
    printer.lines([verdict, f"Open the gallery: {folder.gallery.resolve()}"])
    return 0


def comparison(results: list[Result], created: int, expected: int) -> Columns:
    """One row for each kind of prompt: planned, happened."""
    ordinary = Counter(outcome_of(result) for result in results if result.id not in SPECIAL)
    rows = [(f"{count} ordinary ones", str(plan_of("")), str(outcome)) for outcome, count in ordinary.most_common()]
    special = (result for result in results if result.id in SPECIAL)
    rows += [(result.id, str(plan_of(result.id)), str(outcome_of(result))) for result in special]
    rows.append(("created by this run", count_text(expected, "prediction"), count_text(created, "prediction")))
    kinds, planned, happened = zip(*rows, strict=True)
    return Columns([Column("prompts", kinds), Column("planned", planned), Column("happened", happened)])


if __name__ == "__main__":
    sys.exit(main())
