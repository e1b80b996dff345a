"""A pilot: some prompts of a file run to their end, and what results tell of the cost and the time of all."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import typer

from jobs.operations.report import count_text
from jobs.prices.money import MICRO, dollars, money

if TYPE_CHECKING:
    from jobs.config import Config
    from jobs.enqueue.enqueue import Order
    from jobs.wire import Result

SURE = 2
"""Standard errors on either side of a mean: the mean of all is between them 19 times in 20."""


def pilot_order(order: Order, size: int | None, seed: int | None = None) -> Order:
    """The order for the first prompts only, or some by a seed; a usage error when it cannot be gone on with."""
    if size is None:
        if seed is not None:
            raise typer.BadParameter("it needs --pilot", param_hint="--pilot-seed")
        return order
    if order.limit is not None or order.source == "-":
        raise typer.BadParameter("it needs a file to go on with, and no --limit", param_hint="--pilot")
    return replace(order, limit=size, pick=seed)


def pilot_lines(order: Order, config: Config) -> Iterator[str]:
    """What the prompts that have a result by now cost, and what all of the file will."""
    from jobs.batch_folder.folder import Folder
    from jobs.batch_folder.results import read_results

    results = list(read_results(Folder(config.output_dir, order.batch)))
    total = _count_prompts(order, config)
    yield cost_line(results, total)
    per_minute = config.creates_per_minute
    if seconds := [found for result in results if (found := _seconds(result))]:
        at_least = project_seconds(seconds, total, per_minute, config.max_in_flight)
        took = timedelta(seconds=at_least)
        yield f"One worker takes about {took} for all {total:,}, at your {per_minute:g} creates a minute"
    yield f"The same command without --pilot goes on with the other {max(total - len(results), 0):,}"


def cost_line(results: Sequence[Result], total: int) -> str:
    """What these results cost, and what so many prompts would."""
    costs = [round(result.cost * MICRO) for result in results if result.cost is not None]
    pilot = f"Pilot: {len(results):,} of {count_text(total, 'prompt')}"
    if not costs or len(costs) < len(results):
        return f"{pilot}; what they cost is not known: `python -m jobs prices fetch MODEL` reads prices"
    low, middle, high = project_costs(costs, total)
    spread = f", most likely between {money(dollars(low))} and {money(dollars(high))}" if low < high else ""
    return (
        f"{pilot} cost {money(dollars(sum(costs)))}; all {total:,}, these included, will cost about "
        f"{money(dollars(middle))}{spread}"
    )


def project_costs(costs: Sequence[int], total: int) -> tuple[int, int, int]:
    """What so many prompts cost if these are like all: probably at least, about, probably at most; micro-dollars."""
    about = -(-sum(costs) * total // len(costs))
    error = SURE * stdev(costs) / math.sqrt(len(costs)) * total if len(costs) > 1 else 0.0
    error *= math.sqrt(max(total - len(costs), 0) / total)  # the pilot's own costs are known
    return max(about - round(error), sum(costs)), about, about + round(error)


def by_line(order: Order, config: Config, by: datetime, now: datetime) -> str:
    """Whether what the file has left can be done by then, at the account's rate; how many of it, if not."""
    if order.source == "-":
        raise typer.BadParameter("it needs a file that can be read twice", param_hint="--by")
    from jobs.batch_folder.folder import Folder
    from jobs.batch_folder.results import read_results

    results = list(read_results(Folder(config.output_dir, order.batch)))
    left = max(_count_prompts(order, config) - len(results), 0)
    seconds = [found for result in results if (found := _seconds(result))]
    possible = project_count(seconds, (by - now).total_seconds(), config.creates_per_minute, config.max_in_flight)
    basis = f"the {count_text(len(seconds), 'result')} so far" if seconds else "the rate of creates alone"
    many = "all" if possible >= left else f"about {possible:,}"
    return f"Of {count_text(left, 'prompt')} left, {many} can be done by {by:%H:%M %Z}, going by {basis} and one worker"


def project_count(seconds: Sequence[float], within: float, per_minute: float, in_flight: int) -> int:
    """How many prompts end within so many seconds, if they take as long as these, or no time if there are none."""
    run = fmean(seconds) if seconds else 0.0
    rate = min(per_minute / 60, in_flight / run) if run else per_minute / 60
    return max(math.floor((within - run) * rate), 0)


def project_seconds(seconds: Sequence[float], total: int, per_minute: float, in_flight: int) -> int:
    """How long so many prompts take, by the rate of creates or by the places in flight, and the last one's run."""
    return round(max(total / per_minute * 60, total * fmean(seconds) / in_flight) + fmean(seconds))


def _count_prompts(order: Order, config: Config) -> int:
    from jobs.enqueue.enqueue import check

    return asyncio.run(check(replace(order, model_check=False), config)).total  # `enqueue` checks the models


def _seconds(result: Result) -> float | None:
    found = result.metrics.get("total_time")
    return found if isinstance(found, int | float) and found > 0 else None
