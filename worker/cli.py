"""The command line of `python -m worker`: worker, check, doctor and orphans; argument parsing only."""

from __future__ import annotations

import asyncio
import logging.config
import re
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.config import Config
from jobs.terminal import Commands, as_json, print_lines, run_app

if TYPE_CHECKING:
    from worker.orphans.audit import OrphanList

# Each command imports what it alone needs, hence PLC0415.

AsJson = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]
Since = Annotated[str, typer.Option(metavar="TIME", help="How far back to look: 90m, 2h, 1d.")]
Cancel = Annotated[bool, typer.Option("--cancel", help="Cancel those of ours that still run.")]
Burst = Annotated[bool, typer.Option("--burst", help="Stop when the queue is empty.")]
Pid = Annotated[int | None, typer.Option(help="Only the worker with this process id.")]
MetricsPort = Annotated[
    int | None,
    typer.Option(min=0, max=65_535, help="Serve metrics for Prometheus, as BATCH_METRICS_PORT; 0: any free port."),
]
Only = Annotated[str | None, typer.Option(metavar="BATCH", help="Work on this batch only, and fire no schedules.")]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

app = typer.Typer(
    cls=Commands, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


def main() -> None:
    """Run the command that the arguments name."""
    run_app(app)


@app.callback()
def commands() -> None:
    """Run a worker, and check this machine, Redis and Replicate."""


@app.command()
def worker(*, burst: Burst = False, only: Only = None, metrics_port: MetricsPort = None) -> None:
    """Work until stopped; the same as `arq worker.Settings`."""
    from arq.logs import default_log_config
    from arq.worker import run_worker

    from worker.settings import Settings

    logging.config.dictConfig(default_log_config(verbose=False))
    given = {} if metrics_port is None else {"metrics_port": metrics_port}
    ctx = {"config": Settings.ctx["config"].model_copy(update=given), "only": only}
    run_worker(Settings, burst=burst, ctx=ctx)  # type: ignore[arg-type]  # it has all that is read


@app.command()
def check(*, pid: Pid = None) -> None:
    """Check whether the workers started here are alive.

    Those of this host and this directory; exit code 1 if one is silent, or there is none.
    """
    from worker.heartbeat import read_liveness

    found = [worker for worker in read_liveness() if pid in (None, worker.pid)]
    print_lines(map(str, found) if found else ["no such worker is up here"])
    raise typer.Exit(0 if found and all(worker.is_alive for worker in found) else 1)


@app.command()
def doctor(*, json: AsJson = False) -> None:
    """Check everything that an overnight run needs; exit code 1 if something fails."""
    from worker.doctor.examine import examine
    from worker.doctor.finding import finding_lines

    findings = asyncio.run(examine())
    if json:
        typer.echo(as_json(findings))
    else:
        print_lines(finding_lines(findings))
    raise typer.Exit(1 if any(finding.verdict == "failure" for finding in findings) else 0)


@app.command()
def orphans(*, since: Since = "2h", cancel: Cancel = False, json: AsJson = False) -> None:
    """List predictions of the account that no ledger, claim or record knows.

    A prediction is ours if its input equals a prompt of a batch; exit code 1 if one of ours still runs. Others are
    never canceled.
    """
    from worker.orphans.audit import orphan_lines

    found = asyncio.run(_audit(_seconds(since), cancel=cancel))
    if json:
        typer.echo(as_json(found))
    else:
        print_lines(orphan_lines(found))
    raise typer.Exit(1 if found.left_running else 0)


async def _audit(seconds: float, *, cancel: bool) -> OrphanList:
    from worker.orphans.audit import open_audit

    async with open_audit(Config.load()) as audit:
        found = await audit.find(seconds)
        if cancel:
            await audit.cancel(found)
        return found


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text)
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < seconds <= 366 * 86_400:
        raise typer.BadParameter(f"{text!r} is not a time like 90m, 2h or 1d", param_hint="--since")
    return seconds
