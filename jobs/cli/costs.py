"""`costs`: what all batches have cost, by the records in their folders."""

from __future__ import annotations

from datetime import datetime

import typer
from pydantic import BaseModel

from jobs import terminal
from jobs.batch_folder.costs import BatchCosts, read_costs
from jobs.cli import options, tables
from jobs.config import Config
from jobs.operations.report import count_text
from jobs.prices.money import MICRO, dollars, money
from jobs.printer import Printer

NOTHING = "No batch has a result; `python -m jobs status --all` lists the batches."


class Costs(BaseModel):
    """What `costs --json` prints, in dollars; they are partial when the cost of some prompts is not known."""

    since: datetime | None
    cost: float
    cost_is_partial: bool = False
    batches: list[BatchCosts]


def costs(*, since: options.Since = None, as_json: options.AsJson = False) -> None:
    """Sum up what the batches in the output folder have cost."""
    found = list(read_costs(Config.load().output_dir, since))
    total = dollars(sum(round(one.cost * MICRO) for one in found))
    unknown = sum(spent.unknown for one in found for spent in one.models.values())
    if as_json:
        typer.echo(terminal.as_json(Costs(since=since, cost=total, cost_is_partial=unknown > 0, batches=found)))
        return
    lines = [f"{money(total)} in all" + (f", without {count_text(unknown, 'prompt')} of unknown cost" * bool(unknown))]
    if unknown:
        lines.append("`python -m jobs prices` lists the prices that are known, for predictions from now on")
    Printer().show(tables.costs_table(found), lines if found else [NOTHING])
