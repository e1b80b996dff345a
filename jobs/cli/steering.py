"""The commands that steer a batch as it runs: `retry`, `limit`, `pause`, `resume`, `cancel`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from jobs import terminal
from jobs.budget import MOST_PREDICTIONS
from jobs.cli import options
from jobs.cli.answers import run_operation, show_preview, show_receipt
from jobs.cli.confirm import confirm_costs
from jobs.cli.selection_options import FailureOptions, PromptOptions
from jobs.cli.shell import candidates
from jobs.operations import report
from jobs.terminal import print_lines
from jobs.text import printable

if TYPE_CHECKING:
    from jobs.operations.limits import LimitChanges
    from jobs.operations.operations import Operations
    from jobs.operations.selection import Selection


@options.takes(FailureOptions, options.BudgetOptions)
def retry(
    chosen: FailureOptions,
    limits: options.BudgetOptions,
    batch: options.BatchName,
    *,
    confirm_above: options.ConfirmAbove = None,
    dry_run: options.DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Enqueue again the prompts that failed or were canceled."""
    only = chosen.selection()
    if dry_run:
        return show_preview(run_operation(lambda operations: operations.preview_retry(batch, only)), as_json=as_json)
    confirm = confirm_costs(confirm_above, batch)
    receipt = run_operation(lambda operations: operations.retry(batch, limits.budget(), confirm, only))
    return show_receipt(receipt, as_json=as_json)


def _read_number(text: str) -> int:
    """A limit; 0 lifts it."""
    if text == "none":
        return 0
    if not text.isdecimal() or not 1 <= int(text) <= MOST_PREDICTIONS:
        raise typer.BadParameter(f"{text!r} is neither `none` nor a number from 1 to {MOST_PREDICTIONS:,}")
    return int(text)


def _read_cost(text: str) -> int:
    return 0 if text == "none" else options.read_dollars(text)


NewNumber = Annotated[int | None, typer.Option(parser=_read_number, metavar="N|none", help="As for enqueue.")]
NewCost = Annotated[int | None, typer.Option(parser=_read_cost, metavar="DOLLARS|none", help="As for enqueue.")]
NewPriority = Annotated[
    float | None, typer.Option(callback=options.check_priority, help="2 gets twice the share of 1, from now on.")
]


@dataclass(frozen=True)
class LimitOptions:
    """The options of new limits, 0 for one that is lifted."""

    max_predictions: NewNumber = None
    max_cost: NewCost = None
    max_in_flight: NewNumber = None

    def changes(self) -> LimitChanges:
        """The limits that change; None lifts one."""
        return {name: value or None for name, value in asdict(self).items() if value is not None}


@options.takes(LimitOptions)
def limit(
    given: LimitOptions,
    batch: options.BatchName,
    *,
    priority: NewPriority = None,
    dry_run: options.DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Change a batch's budget, limit or priority, or show them."""
    from jobs.operations.limits import known_limit_lines, limit_lines

    changes = given.changes()
    shows = not changes and priority is None
    changed = run_operation(lambda operations: operations.limit(batch, changes, priority, dry_run=dry_run or shows))
    if as_json:
        typer.echo(terminal.as_json(changed))
    elif shows:
        print_lines(known_limit_lines(changed))
    else:
        print_lines(
            [
                *limit_lines(changed),
                "Nothing was done. The same command without --dry-run does it." if dry_run else _watch(batch),
            ]
        )


OneBatch = Annotated[
    str | None,
    typer.Option("--batch", metavar="BATCH", help="This batch alone.", autocompletion=candidates.batches),
]


def pause(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[REASON]...", help="What `status` shows meanwhile.")
    ] = None,
    batch: OneBatch = None,
) -> None:
    """Create nothing more until `resume`; what runs is still saved."""
    reason = " ".join(words or ()) or "paused by hand"
    if batch is not None:
        sentence = run_operation(lambda operations: operations.pause_batch(batch, reason))
    else:
        sentence = run_operation(lambda operations: operations.pause(reason), start=True)
    print_lines([f"{printable(sentence)}; {_after_pause(batch, sentence)}"])


def _after_pause(batch: str | None, sentence: str) -> str:
    if batch is None:
        return "`python -m jobs resume` lifts it"
    return _watch(batch) if "nothing was paused" in sentence else f"`python -m jobs resume --batch {batch}` lifts it"


def resume(batch: OneBatch = None) -> None:
    """Lift every pause of account and models, or one batch's."""
    if batch is not None:
        lifted = run_operation(lambda operations: operations.resume_batch(batch))
        print_lines([f"{batch}: {'resumed' if lifted else 'it was not paused itself'}; {_watch(batch)}"])
        return
    lifted, paused = run_operation(_resume_all)
    what = "Resumed" if lifted else "Nothing was paused"
    print_lines([f"{what}; `python -m jobs status` shows all batches"])
    print_lines(f"{name} stays paused: python -m jobs resume --batch {name}" for name in paused)


def _watch(batch: str) -> str:
    return f"`python -m jobs watch {batch}` follows it"


async def _resume_all(operations: Operations) -> tuple[bool, list[str]]:
    return await operations.resume(), await operations.paused_batches()


@options.takes(PromptOptions)
def cancel(
    chosen: PromptOptions,
    batch: options.BatchName,
    *,
    dry_run: options.DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Cancel what is not done; what runs is canceled at Replicate."""
    only = chosen.selection()
    if dry_run:
        return show_preview(run_operation(lambda operations: operations.preview_cancel(batch, only)), as_json=as_json)
    if only:
        return _cancel_prompts(batch, only, as_json=as_json)
    status = run_operation(lambda operations: operations.cancel(batch))
    if as_json:
        typer.echo(terminal.as_json(status))
    else:
        print_lines(report.cancel_lines(status))
    return None


def _cancel_prompts(batch: str, only: Selection, *, as_json: bool) -> None:
    from jobs.operations.prompts_canceled import prompts_canceled_lines

    canceled = run_operation(lambda operations: operations.cancel_prompts(batch, only))
    if as_json:
        typer.echo(terminal.as_json(canceled))
    else:
        print_lines(prompts_canceled_lines(canceled))
