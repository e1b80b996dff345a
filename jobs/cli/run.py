"""Everything in one command: enqueue, run a worker until the batch ends, print a summary."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.results import count_results, read_results
from jobs.cli.progress import OwnPace, follow, is_live, progress_line, screen_for
from jobs.cli.tables import failures_table, path_lines, totals_table
from jobs.config import Config, read_environment
from jobs.errors import BatchError, ConfigError, InputError, RedisUnreachable
from jobs.network import Network
from jobs.operations.operations import Operations
from jobs.operations.report import START_WORKER, count_text, failure_note, file_lines, has_ended, is_finished
from jobs.printer import Printer
from jobs.wire import Status

if TYPE_CHECKING:
    from jobs.enqueue.enqueue import Order
    from jobs.enqueue.estimate import Confirm

COMMAND = (sys.executable, "-m", "worker", "worker", "--burst")
LOG = ".worker.log"
"""The worker's log in the batch's folder; no prompt's id begins with a dot."""

GRACE = 45.0
"""Seconds that a worker may take to stop before it is killed; the next one resumes its predictions."""

PATIENCE = 5.0
"""Seconds that a worker may take to notice that the queue is empty."""

SHOWN_FAILURES = 10
TAIL = 4096
STANDARD_ERROR = 2


async def run(
    operations: Operations, order: Order, printer: Printer, confirm: Confirm | None = None, *, everything: bool = False
) -> Status:
    """Enqueue the order and follow it to its end with a burst worker; BatchError when the worker fails.

    The worker takes no shards of other batches, unless it is to work on `everything` that is queued.
    """
    _check_settings(operations.config)
    with progress_line(printer) as progress:
        receipt = await operations.enqueue(order, progress, confirm)
    folder = Folder(operations.config.output_dir, receipt.batch)
    printer.lines([*file_lines(receipt, order.path), *wrong_receivers(operations.config)])
    status = await operations.status(receipt.batch)
    if has_ended(status):
        _sum_up(folder, status, printer)
        return status
    log = folder.path / LOG if is_live(printer) else None
    with_own_pace = OwnPace(status)
    async with worker_process(printer, log, *(() if everything else ("--only", receipt.batch))) as worker:

        async def read() -> Status:
            gone = worker.returncode is not None
            status = await operations.status(receipt.batch)
            if gone and not has_ended(status):
                raise worker_exit_error(worker, log, receipt.batch)
            status = status.model_copy(update={"workers": max(status.workers, 1)})  # ours, before its first heartbeat
            return with_own_pace(status)

        status = await follow(read, screen_for(printer))
        _sum_up(folder, status, printer)
        await wait_for_exit(worker, printer, alone=everything and status.workers < 2, notify=operations.config.notify)
    if not everything and status.workers < 2 and (left := await operations.queued()):
        printer.lines([f"{count_text(left, 'shard')} of other batches wait for a worker: {START_WORKER}"])
    return status


def _check_settings(config: Config) -> None:
    """ConfigError when the worker could not start."""
    if config.replicate_api_token is None:
        raise ConfigError("REPLICATE_API_TOKEN is not set. Put it in the environment or in .env; nothing was enqueued.")
    Network.load()


def wrong_receivers(config: Config) -> list[str]:
    """What is wrong with notify.toml, in a line, as the worker's log may be in a file."""
    if not config.notify.exists():
        return []
    from jobs.notify.file import load

    wrong = load(config.notify, read_environment()).error
    return [f"Warning: {wrong}"] if wrong else []


def _sum_up(folder: Folder, status: Status, printer: Printer) -> None:
    if not is_finished(status):
        printer.lines([f"{status.batch} cannot continue: {status.reason}"])
        return
    counts = count_results(folder)
    printer.print()
    printer.show(totals_table(counts), path_lines(folder, counts))
    if unsuccessful := counts.failed + counts.canceled:
        failures = islice(read_results(folder, failed=True), SHOWN_FAILURES)
        printer.print()
        printer.show(failures_table(failures), filter(None, [failure_note(folder.batch, unsuccessful)]))


@asynccontextmanager
async def worker_process(
    printer: Printer, log: Path | None, *options: str, command: Sequence[str] = COMMAND, grace: float = GRACE
) -> AsyncIterator[Process]:
    """A worker that ends with the queue, or gracefully with this block; it logs to `log`, None: standard error.

    The terminal's Ctrl-C does not reach it, so that it is stopped once, by us, also when the terminal is closed.
    """
    if task := asyncio.current_task():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants it
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if log else os.dup(STANDARD_ERROR)
    try:
        worker = await asyncio.create_subprocess_exec(
            *command, *options, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, process_group=0
        )
    finally:
        os.close(output)
    try:
        yield worker
    except asyncio.CancelledError:
        with suppress(OSError):  # the terminal may be gone
            printer.lines(["Stopping the worker …"])
        await _stop(worker, grace)
        with suppress(OSError):
            printer.lines(["Stopped. The same command continues from here; Replicate keeps outputs for an hour."])
        raise
    finally:
        await _stop(worker, grace)


async def _stop(worker: Process, grace: float) -> None:
    if worker.returncode is not None:
        return
    worker.terminate()
    try:
        async with asyncio.timeout(grace):
            await worker.wait()
    except TimeoutError:
        worker.kill()
        await worker.wait()


async def wait_for_exit(
    worker: Process, printer: Printer, *, alone: bool, notify: Path | None = None, patience: float = PATIENCE
) -> None:
    """Wait for the worker to end; it leaves the rest of the queue to other workers, unless it is `alone`."""
    try:
        async with asyncio.timeout(patience):
            await worker.wait()
    except TimeoutError:
        if alone:
            printer.lines(["The worker continues with other queued batches; Ctrl-C stops it."])
            await worker.wait()
        elif _is_there(notify):
            printer.lines(["Waiting for the last notifications …"])


def _is_there(file: Path | None) -> bool:
    return file is not None and file.exists()


def worker_exit_error(worker: Process, log: Path | None, batch: str) -> BatchError:
    """Why the batch cannot continue: the end of the log, and the worker's exit code if it has a meaning."""
    lines = [f"the worker ended before the batch was finished (exit code {worker.returncode})"]
    if log:
        tail = log.read_bytes()[-TAIL:].decode("utf-8", "replace")
        lines += [*tail.splitlines()[-20:], f"Its whole log: {log}"]
    lines.append(f"Its prompts stay queued. The same command tries again; so does {START_WORKER};")
    lines.append(f"`python -m jobs delete {batch} --force` drops them.")
    error = BatchError("\n".join(lines))
    if worker.returncode in (InputError.exit_code, RedisUnreachable.exit_code):
        error.exit_code = worker.returncode
    return error
