"""What a person is asked before an action, and what an action is asked with."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from jobs.dashboard.index.filters import Filter
from jobs.operations.operations import Operations
from jobs.operations.selection import Selection

MANY = 100
"""Prompts above which a word has to be typed."""


REFUSED = "content_policy"
"""The kind of failures that a retry is not likely to cure."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An action on a batch, "" for one on the account; `indexes` are the prompts that a filter shows, None: all.

    `is_whole`: those are all, as the batch's folder has been read to its end. `refused` of them failed for
    their content.
    """

    operations: Operations
    batch: str
    chosen: Filter
    indexes: frozenset[int] | None
    values: Mapping[str, str]
    is_whole: bool = True
    refused: int = 0

    @property
    def selection(self) -> Selection | None:
        """The prompts that it is for; None: the whole batch."""
        return None if self.indexes is None else Selection(indexes=self.indexes)


class Field(NamedTuple):
    """Something to fill in; an empty value leaves it as it is. A box to tick has a value when it is ticked."""

    name: str
    label: str
    value: str = ""
    hint: str = ""
    choices: tuple[str, ...] = ()
    is_box: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """What an action would do, in sentences, and to how many `prompts`; without a `button` there is nothing to do."""

    title: str
    sentences: tuple[str, ...]
    button: str = ""
    prompts: int = 0
    fields: tuple[Field, ...] = ()
    danger: bool = False

    @property
    def mark(self) -> str:
        """What tells it from one that others have changed meanwhile: what its fields were when it was asked."""
        return hashlib.sha256(
            repr([(field.name, field.value) for field in self.fields if not field.is_box]).encode()
        ).hexdigest()[:16]

    @property
    def needs_word(self) -> bool:
        """Whether the batch's name has to be typed."""
        return self.prompts > MANY


class Action(NamedTuple):
    """An action: asks first, then acts and says what it did. Both may raise a BatchError."""

    ask: Callable[[Asked], Awaitable[Question]]
    act: Callable[[Asked], Awaitable[str]]
