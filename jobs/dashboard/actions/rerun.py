"""Run prompts again as a new batch: what was rejected, or what a filter shows, with the same seeds or new ones."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.prompts_copy import read_copy
from jobs.batch_folder.reviews import last_reviews
from jobs.catalog.catalog import Catalog
from jobs.dashboard.actions.question import Action, Asked, Field, Question
from jobs.enqueue.estimate import Estimate, Estimator
from jobs.enqueue.order import Order
from jobs.errors import InputError
from jobs.input_files.reference import with_files
from jobs.operations.report import cost_words, count_text, receipt_line
from jobs.prompts_file.formats import Record
from jobs.secret_inputs import with_plain_literals

SAME, NEW = "the same seeds", "new seeds"
LARGEST_SEED = 2**31
LONGEST_NAME = 64


@dataclass(frozen=True)
class AgainRows:
    """Prompts of a batch as rows of another one; `pins` are the versions that its models ran at."""

    source: str
    indexes: frozenset[int]
    new_seeds: bool
    pins: Mapping[str, str] = field(default_factory=dict)

    key = "input"  # each row has all of it
    unit = "row"

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"prompts of batch {self.source!r}"

    @property
    def origin(self) -> str:
        """What the batch keeps of where its rows came from."""
        return f"@again:{self.source}"

    @property
    def batch(self) -> str:
        """What a batch of it is called."""
        return f"{self.source}-again"

    def records(self, _key: str, output_dir: Path, _notes: list[str], /) -> Iterator[Record]:
        """Yield a row for each prompt; StorageError."""
        for prompt in read_copy(Folder(output_dir, self.source)):
            if prompt.index in self.indexes:
                values: dict[str, Any] = {**with_plain_literals(with_files(prompt.input, lambda file: f"@{file.path}"))}
                if self.new_seeds and "seed" in values:
                    values["seed"] = secrets.randbelow(LARGEST_SEED)
                model = self.pins.get(prompt.model, prompt.model)
                yield Record(prompt.index + 1, prompt.index + 1, {"id": prompt.id, "model": model, "input": values})


async def ask_rerun(asked: Asked) -> Question:
    """What would run again, and what it would cost."""
    folder = Folder(asked.operations.config.output_dir, asked.batch)
    what = "the rejected prompts" if asked.indexes is None else "the prompts that the filter shows"
    estimate, name = await asyncio.to_thread(_estimate, asked, folder)
    if not estimate.prompts:
        return Question(f"Run {what} again", ("There are none.",))
    words = cost_words(*estimate.costs)
    words = words if words.startswith("costs") else f"costs an amount that is not known{words and f': {words}'}"
    fields = (Field("name", "Name of the new batch", name), Field("seeds", "With", NEW, choices=(NEW, SAME)))
    sentences = (
        f"{count_text(estimate.prompts, 'prompt')} become a new batch; it {words}.",
        "This batch stays as it is.",
    )
    return Question(f"Run {what} again", sentences, "Run again", estimate.prompts, fields)


async def rerun(asked: Asked) -> str:
    """Enqueue them."""
    if asked.values.get("seeds", NEW) not in (NEW, SAME):
        raise InputError(f"{asked.values['seeds']!r} is neither {NEW!r} nor {SAME!r}")
    folder = Folder(asked.operations.config.output_dir, asked.batch)
    return receipt_line(await asked.operations.enqueue(await asyncio.to_thread(_order, asked, folder)))


def _estimate(asked: Asked, folder: Folder) -> tuple[Estimate, str]:
    config, indexes = asked.operations.config, _indexes(asked, folder)
    estimator = Estimator.load(config, Catalog(config, folder, None))
    return estimator.estimate(folder, indexes.__contains__), _free_name(folder)


def _order(asked: Asked, folder: Folder) -> Order:
    name = asked.values.get("name", "").strip() or _free_name(folder)
    if Folder(folder.output_dir, name).path.exists():
        raise InputError(f"there is a batch {name!r} already; give the new one another name")
    pins = {model: found.pinned for model, found in Catalog(asked.operations.config, folder, None).kept.items()}
    rows = AgainRows(asked.batch, _indexes(asked, folder), asked.values.get("seeds", NEW) == NEW, pins)
    return Order(rows, name, model_check=False, allow_literal_secrets=True)  # its rows were checked before


def _indexes(asked: Asked, folder: Folder) -> frozenset[int]:
    if asked.indexes is not None:
        return asked.indexes
    rejected = {name for name, review in last_reviews(folder).items() if review.rejected}
    return frozenset(prompt.index for prompt in read_copy(folder) if prompt.id in rejected) if rejected else frozenset()


def _free_name(folder: Folder) -> str:
    """A name that no batch has yet."""
    names = (f"{folder.batch[: LONGEST_NAME - 10]}-again{f'-{number}' if number > 1 else ''}" for number in count(1))
    return next(name for name in names if not (folder.output_dir / name).exists())


ACTIONS = {"rerun": Action(ask_rerun, rerun)}
