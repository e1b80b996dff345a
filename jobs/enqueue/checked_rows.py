"""The rows of a prompts file, chunk by chunk, each checked by itself and against its model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from heapq import merge
from pathlib import Path
from typing import ParamSpec, TypeVar

from jobs.batch_folder.copied_inputs import CopiedInputs
from jobs.batch_folder.output_files import find_output
from jobs.catalog.catalog import Catalog
from jobs.catalog.file_key import only_file_key
from jobs.catalog.row_check import CheckedRow, RowCheck
from jobs.config import Config
from jobs.enqueue.order import Order
from jobs.errors import InputError, ModelsUnknown, Problem, PromptsError
from jobs.input_files.local_files import find_none
from jobs.input_files.resolver import FileResolver
from jobs.names import model_problem
from jobs.prompts_file.dataset_folder import home_of
from jobs.prompts_file.formats import Record
from jobs.prompts_file.key_names import KeyNames
from jobs.prompts_file.reader import Defaults, Ids, Row, read_prompts

SHOWN = 20
"""Problems that are shown; the rest are counted."""

CHUNK_ROWS, CHUNK_BYTES = 1000, 1 << 18
"""Rows, or bytes of them, that are in memory at once."""

FILES_AT_ONCE = 50
"""Rows with files that are checked at once: their files are read meanwhile, which may take long."""

P = ParamSpec("P")
T = TypeVar("T")


class CheckedRows:
    """Reads a file once. What its models are is asked of `catalog`, unless the check is switched off."""

    def __init__(self, order: Order, config: Config, catalog: Catalog) -> None:
        self.ids, self.names = Ids(), KeyNames()
        self._order, self._model, self._catalog = order, order.model or config.model, catalog
        self._is_checked = order.model_check and config.model_check
        self._output_dir = config.output_dir
        self._check = RowCheck(
            catalog.found,
            FileResolver(
                home_of(order.source) if isinstance(order.source, str) else Path(),
                partial(find_output, config.output_dir),
                CopiedInputs(catalog.folder).find if catalog.folder else find_none,
            ),
            allow_unknown=order.allow_unknown,
            allow_literal_secrets=order.allow_literal_secrets,
        )
        self._problems: list[Problem] = []
        self._notes: list[str] = []
        self._count = 0

    async def chunks(self) -> AsyncIterator[list[CheckedRow]]:
        """Yield the valid rows; after the last one, PromptsError if any was wrong. InputError, ModelsUnknown."""
        defaults = Defaults(self._model, self._order.input)
        found = read_prompts(await self._source(), defaults, self.ids, self.names, self._order.expansion)
        while chunk := await self._run(_next_chunk, found):
            rows = [item for item in chunk if isinstance(item, Row)]
            if len(rows) < len(chunk):
                self._note([item for item in chunk if isinstance(item, Problem)])
            await self._find_models(row.model for row in rows)
            for some in _parts(rows):
                yield await self._run(self._checked, some)
        mistakes = self._check.mistakes
        if count := self._count + mistakes.count:
            problems = list(merge(self._problems, mistakes.problems(), key=lambda problem: problem.line))[:SHOWN]
            named = [replace(problem, unit=self._order.unit) for problem in problems]
            raise PromptsError(self._order.file_name, named, count)

    def _note(self, problems: list[Problem]) -> None:
        self._problems += problems[: max(SHOWN - self._count, 0)]
        self._count += len(problems)

    def warnings(self) -> list[str]:
        """What a person may want to change in the file before it is paid for."""
        known = self._check.known_keys if self._is_checked else frozenset[str]()
        return [*self._notes, *self.names.warnings(known), *self._check.warnings()]

    async def _source(self) -> str | Iterator[Record]:
        """The file, or the rows that come from none. InputError, ModelsUnknown."""
        source = self._order.source
        if isinstance(source, str):
            return source
        key = source.key or await self._only_file_key()
        if key in self._order.sets:
            raise InputError(f"{key!r} is set for all rows, but the files are to be that input; --as names another one")
        return source.records(key, self._output_dir, self._notes)

    async def _only_file_key(self) -> str:
        if not self._is_checked:
            raise InputError("--as says which input the files are: no model is looked at")
        names = self._order.models or ([self._model] if self._model else [])
        if problem := next(filter(None, map(model_problem, names)), None):
            raise InputError(f"--model or BATCH_MODEL: {problem}")
        await self._find_models(names)
        return only_file_key([self._catalog.found[name] for name in names])

    async def _find_models(self, names: Iterable[str]) -> None:
        if not self._is_checked:
            return
        try:
            await self._catalog.find(set(names))
        except ModelsUnknown as error:
            raise ModelsUnknown(
                f"{self._order.file_name} was not checked against its models: {error}; nothing was enqueued. "
                "Try again, or do without this check: --no-model-check"
            ) from error

    def _checked(self, rows: list[Row]) -> list[CheckedRow]:
        check, kept = self._check, self._catalog.kept
        if self._is_checked:
            return check.check_all(rows)
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


def _parts(rows: list[Row]) -> Iterator[list[Row]]:
    if True not in [row.names_files for row in rows]:
        yield rows
        return
    for start in range(0, len(rows), FILES_AT_ONCE):
        yield rows[start : start + FILES_AT_ONCE]
