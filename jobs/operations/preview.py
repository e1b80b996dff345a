"""What an operation would touch and cost, before it is done."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal

from pydantic import BaseModel

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import model_of, read_rows
from jobs.catalog.catalog import Catalog
from jobs.config import Config
from jobs.enqueue.estimate import Costs, Estimate, Estimator
from jobs.enqueue.retry import choose
from jobs.enqueue.sharding import job_of
from jobs.operations.report import count_text, estimate_words, unpriced_lines
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches, Bits
from jobs.state.pending import open_attempts


class Preview(BaseModel):
    """What an operation would do as of now; the act itself says what it did.

    `prompts` are those that it touches, `models` how many of each model. Of a cancel's, `in_flight` have a prediction
    that would be canceled, and `never_created` would have none any more. The costs, in dollars, are of the predictions
    that a retry would create or that a cancel would prevent; they are partial without the prompts of `unpriced_models`.
    `unpriced` are sentences on what is not known: one for each of these models, then others.
    """

    operation: Literal["retry", "cancel"]
    batch: str
    prompts: int
    models: dict[str, int]
    in_flight: int = 0
    never_created: int = 0
    cost_at_least: float | None = None
    cost_at_most: float | None = None
    cost_is_partial: bool = False
    unpriced: list[str] = []
    unpriced_models: list[str] = []


async def preview_retry(name: str, config: Config, redis: Redis, only: Bits | None) -> Preview:
    """What a retry would do, of `only` these prompts or of all; BatchNotFound, InputError, StorageError."""
    batches, folder = Batches(redis), Folder(config.output_dir, name)
    failed, dead = await choose(redis, folder, await batches.get(name), only)
    settled = await batches.settled(name)

    def is_touched(index: int, job: str) -> bool:
        return index in failed or (index not in settled and job in dead)

    models, costs = await asyncio.to_thread(_count, folder, config, is_touched, Bits(b"").__contains__)
    return _preview("retry", folder, models, costs)


async def preview_cancel(name: str, config: Config, redis: Redis, only: Bits | None) -> Preview:
    """What a cancel would do, of `only` these prompts or of all; BatchNotFound, StorageError."""
    batches, folder = Batches(redis), Folder(config.output_dir, name)
    await batches.get(name)
    settled, running = await batches.settled(name), await open_attempts(redis, name)

    def is_touched(index: int, _: str) -> bool:
        return index not in settled and (only is None or index in only)

    models, costs = await asyncio.to_thread(_count, folder, config, is_touched, running.__contains__)
    prompts = models.total()
    return _preview("cancel", folder, models, costs).model_copy(
        update={"in_flight": prompts - costs.prompts, "never_created": costs.prompts}
    )


def _preview(operation: Literal["retry", "cancel"], folder: Folder, models: Counter[str], costs: Estimate) -> Preview:
    return Preview(
        operation=operation,
        batch=folder.batch,
        prompts=models.total(),
        models=dict(models.most_common()),
        **(costs.costs if costs.prices else Costs()).facts(),
        unpriced=costs.unpriced() if costs.prices else [],
    )


def _count(
    folder: Folder, config: Config, is_touched: Callable[[int, str], bool], is_created: Callable[[int], bool]
) -> tuple[Counter[str], Estimate]:
    """The prompts that are touched, by model, and what those of them cost whose prediction is not created yet."""
    models, costs = Counter[str](), Estimator.load(config, Catalog(config, folder, None)).begin()
    for row in read_rows(folder):
        if is_touched(row.index, str(job_of(folder.batch, row))):
            models[model_of(row.text)] += 1
            if not is_created(row.index):
                costs.add(model_of(row.text), row.index + 1, row.text)
    return models, costs


def preview_lines(preview: Preview) -> Iterator[str]:
    """What people read of it."""
    if not preview.prompts:
        why = f"`python -m jobs status {preview.batch}` says why"
        yield f"{preview.batch}: there is nothing to {preview.operation}; {why}"
        return
    models = ", ".join(f"{count:,} of {model}" for model, count in preview.models.items())
    line = f"{preview.batch}: would {preview.operation} {count_text(preview.prompts, 'prompt')}: {models}"
    words = estimate_words(preview)
    if preview.operation == "retry":
        yield f"{line}; {words}" if words else line
    else:
        yield line
        yield f"In flight, and canceled at Replicate: {preview.in_flight:,}"
        never = f"Never created: {preview.never_created:,}"
        yield f"{never}; {words.replace('costs ', 'that would cost ', 1)}" if words else never
    yield from unpriced_lines(preview)
    yield "Nothing was done. The same command without --dry-run does it."
