"""The options of `enqueue` and `run` that turn one row into many, as one value."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jobs.expansion.matrix import Matrix
from jobs.expansion.template import Template, TemplateError, read_template
from jobs.expansion.value_list import MOST
from jobs.expansion.variant_ids import variant_id


class Variant(NamedTuple):
    """A row's id, model (None: it names none) and input."""

    id: str
    model: str | None
    input: dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """How many prompts of a template each row gets; the seed decides which."""

    size: int
    seed: int = 0

    def indexes(self, count: int, row_id: str) -> Iterable[int]:
        """Pick some of `count` indexes, always the same ones; a larger sample includes the smaller one."""
        if self.size >= count:
            return range(count)
        found: dict[int, None] = {}
        tries = 0
        while len(found) < self.size:
            digest = hashlib.sha256(f"{self.seed}/{tries}/{row_id}".encode()).digest()
            found[int.from_bytes(digest) % count] = None
            tries += 1
        return found


@dataclass(frozen=True)
class Expansion:
    """Makes variants of rows. The values that it sets replace those of the row.

    `own_templates`: the prompt of each row is a template. The columns that a template names are not sent. `columns` are
    renamed before, or left out if their new name is empty.
    """

    matrix: Matrix
    template: Template | None = None
    own_templates: bool = False
    sample: Sample | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def sets(self) -> frozenset[str]:
        """The keys whose values in a row are replaced."""
        written = self.template and "prompt" not in self.template.names
        return self.matrix.keys | {"prompt"} if written else self.matrix.keys

    def check(self) -> None:
        """Raise TemplateError if each row would become too many."""
        if self.template:
            self._indexes(self.template, "")

    def variants(self, row: Variant, cells: Mapping[str, str]) -> Iterator[Variant]:
        """Yield the rows that a row becomes; TemplateError when it does not fill its template.

        `cells` are texts of the row's input as the file has them: 1.50, not 1.5.
        """
        template = self.template
        if self.own_templates and isinstance(prompt := row.input.get("prompt"), str):
            template = read_template(prompt)
        indexes = self._indexes(template, row.id) if template else ()
        for values, parts in self.matrix.combinations():
            model = values.pop("model", row.model)
            columns = row.input | values
            if template is None:
                yield Variant(variant_id(row.id, parts), model, columns)
                continue
            written = {**columns, **cells, **values}
            kept = {key: value for key, value in columns.items() if key not in template.names}
            for index in indexes:
                prompt, chosen = template.make(index, written)
                yield Variant(variant_id(row.id, [*parts, *chosen]), model, kept | {"prompt": prompt})

    def _indexes(self, template: Template, row_id: str) -> Iterable[int]:
        size = min(template.count, self.sample.size) if self.sample else template.count
        if size * self.matrix.count > MOST:
            raise TemplateError(
                f"each row would become more than {MOST:,} rows; --sample N makes N prompts of a template"
            )
        return self.sample.indexes(template.count, row_id) if self.sample else range(template.count)
