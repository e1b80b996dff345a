"""The rows of a prompts file, chunk by chunk, each checked by itself and against its model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from heapq import merge
from typing import ParamSpec, TypeVar

from jobs.catalog.catalog import Catalog
from jobs.catalog.row_check import CheckedRow, RowCheck
from jobs.config import Config
from jobs.enqueue.order import Order
from jobs.errors import ModelsUnknown, Problem, PromptsError
from jobs.prompts_file.dataset_folder import home_of
from jobs.prompts_file.key_names import KeyNames
from jobs.prompts_file.reader import Defaults, Ids, Row, read_prompts

SHOWN = 20
"""Problems that are shown; the rest are counted."""

CHUNK_ROWS, CHUNK_BYTES = 1000, 1 << 16
"""Rows, or bytes of them, that are in memory at once."""

P = ParamSpec("P")
T = TypeVar("T")


class CheckedRows:
    """Reads a file once. What its models are is asked of `catalog`, unless the check is switched off."""

    def __init__(self, order: Order, config: Config, catalog: Catalog) -> None:
        self.ids, self.names = Ids(), KeyNames()
        self._order, self._model, self._catalog = order, order.model or config.model, catalog
        self._is_checked = order.model_check and config.model_check
        self._check = RowCheck(catalog.found, home_of(order.source), allow_unknown=order.allow_unknown)
        self._problems: list[Problem] = []
        self._count = 0

    async def chunks(self) -> AsyncIterator[list[CheckedRow]]:
        """Yield the valid rows; after the last one, PromptsError if any was wrong. InputError, ModelsUnknown."""
        defaults = Defaults(self._model, self._order.input)
        items = read_prompts(self._order.source, defaults, self.ids, self.names, self._order.expansion)
        while chunk := await self._run(_next_chunk, items):
            rows = [item for item in chunk if isinstance(item, Row)]
            for item in chunk:
                if isinstance(item, Problem):
                    self._count += 1
                    self._problems += [item] if self._count <= SHOWN else []
            await self._find_models(rows)
            yield await self._run(self._checked, rows)
        mistakes = self._check.mistakes
        if count := self._count + mistakes.count:
            problems = list(merge(self._problems, mistakes.problems(), key=lambda problem: problem.line))
            raise PromptsError(self._order.file_name, problems[:SHOWN], count)

    def warnings(self) -> list[str]:
        """What a person may want to change in the file before it is paid for."""
        known = self._check.known_keys if self._is_checked else frozenset[str]()
        return [*self.names.warnings(known), *self._check.warnings()]

    async def _find_models(self, rows: list[Row]) -> None:
        if not self._is_checked:
            return
        try:
            await self._catalog.find({row.model for row in rows})
        except ModelsUnknown as error:
            raise ModelsUnknown(
                f"{self._order.file_name} was not checked against its models: {error}; nothing was enqueued. "
                "Try again, or do without this check: --no-model-check"
            ) from error

    def _checked(self, rows: list[Row]) -> list[CheckedRow]:
        check, kept = self._check, self._catalog.kept
        if self._is_checked:
            return [checked for row in rows if (checked := check.check(row))]
        return [checked for row in rows if (checked := check.as_kept(row, kept.get(row.model)))]

    async def _run(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a step in a thread, but for one that reads a terminal: there nobody could interrupt it."""
        if self._order.source == "-":
            return step(*args, **kwargs)
        return await asyncio.to_thread(step, *args, **kwargs)


def _next_chunk(found: Iterator[Sequence[Row | Problem]]) -> list[Row | Problem]:
    chunk: list[Row | Problem] = []
    size = 0
    for some in found:
        chunk += some
        size += sum([len(item.text) for item in some if isinstance(item, Row)])
        if len(chunk) >= CHUNK_ROWS or size > CHUNK_BYTES:
            break
    return chunk
