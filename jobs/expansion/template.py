"""Prompts with places to fill: `{name}` is a column, `{a|b}` and `{2$$a|b|c}` are variants, as in dynamic prompts.

A template is a small tree. Each node knows how many texts it can become and makes the n-th of them, so that all can be
made one after the other, or a few of them without the rest.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from itertools import accumulate, permutations
from typing import Any, Protocol

from jobs.expansion.variant_ids import canonical, slug

MOST_SELECTIONS = 100_000
"""Ways to take some of a group's options."""

MOST_NESTED = 20

_SOME = re.compile(r"\s*(?P<least>\d{1,3})?(?P<range>-)?(?P<most>\d{1,3})?\s*\$\$(?:(?P<between>[^{}|$]*)\$\$)?")
_WEIGHT = re.compile(r"\s*[\d.]+::")
_WILDCARD = re.compile(r"__[\w*/~@-]*[^\W_][\w*/~@-]*__")
_MISPLACED = re.compile(r"[^{}|]*\$\$")
_BLANKS = re.compile(r"\s+(?=\{)")
_STRUCTURE = re.compile(r"[{}|]")
_BRACES = re.compile(r"\{\{|\}\}|[{}]")


class TemplateError(ValueError):
    """A template cannot be understood, or a row cannot fill it."""


class Node(Protocol):
    """A part of a template."""

    @property
    def count(self) -> int:
        """How many texts it can become."""

    def make(self, index: int, columns: Mapping[str, Any]) -> str:
        """The text at an index from 0; TemplateError when the columns do not fill it."""


@dataclass(frozen=True)
class Text:
    """Text that stays as it is."""

    text: str
    count: int = 1

    def make(self, _index: int, _columns: Mapping[str, Any]) -> str:
        """The text."""
        return self.text


@dataclass(frozen=True)
class Column:
    """The value of a column."""

    name: str
    count: int = 1

    def make(self, _index: int, columns: Mapping[str, Any]) -> str:
        """The value in the row; TemplateError when there is none, or none that can stand in a text."""
        value = columns.get(self.name)
        if value is None:
            raise TemplateError(f"the template needs {self.name!r}, which the row does not have{self._near(columns)}")
        if isinstance(value, dict | list):
            raise TemplateError(f"the template needs {self.name!r}, which is neither text nor a number in the row")
        return value if isinstance(value, str) else canonical(value)

    def _near(self, columns: Mapping[str, Any]) -> str:
        names = {key.casefold(): key for key in columns}
        near = get_close_matches(self.name.casefold(), names, 1)
        return f"; is {names[near[0]]!r} meant?" if near else f"; it has {', '.join(list(columns)[:8]) or 'nothing'}"


@dataclass(frozen=True)
class Joined:
    """Nodes one after the other; the last one varies fastest."""

    parts: tuple[Node, ...]
    between: str = ""

    @cached_property
    def count(self) -> int:
        """How many combinations there are."""
        return math.prod(part.count for part in self.parts)

    def make(self, index: int, columns: Mapping[str, Any]) -> str:
        """The texts at an index."""
        return self.between.join(self.texts(index, columns))

    def texts(self, index: int, columns: Mapping[str, Any]) -> list[str]:
        """The text of each node."""
        found = []
        for part in reversed(self.parts):
            index, digit = divmod(index, part.count)
            found.append(part.make(digit, columns))
        return found[::-1]


@dataclass(frozen=True)
class OneOf:
    """A group: one of several nodes."""

    options: tuple[Node, ...]

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(option.count for option in self.options))

    @property
    def count(self) -> int:
        """How many texts all options together can become."""
        return self._ends[-1]

    def make(self, index: int, columns: Mapping[str, Any]) -> str:
        """The text at an index."""
        place = bisect_right(self._ends, index)
        return self.options[place].make(index - (self._ends[place - 1] if place else 0), columns)


@dataclass(frozen=True)
class Template:
    """A prompt to fill, and the names of the columns that fill it."""

    body: Joined
    names: frozenset[str]

    @property
    def count(self) -> int:
        """How many prompts it makes of a row."""
        return self.body.count

    def make(self, index: int, columns: Mapping[str, Any]) -> tuple[str, list[str]]:
        """Return the prompt at an index, and for its id the text of each group; TemplateError."""
        texts = self.body.texts(index, columns)
        parts = [slug(text.strip()) for part, text in zip(self.body.parts, texts, strict=True) if part.count > 1]
        return "".join(texts), parts


def read_template(text: str) -> Template:
    """Parse a template; TemplateError if it is malformed or uses what is not supported."""
    parser = _Parser(text)
    return Template(parser.body(), frozenset(parser.names))


class _Parser:
    """Reads a template from left to right."""

    def __init__(self, text: str) -> None:
        self._text, self._place = text, 0
        self._open: list[int] = []
        self.names = set[str]()

    def body(self) -> Joined:
        """Parse the whole template. Outside of groups, a doubled brace is a literal one."""
        parts: list[Node] = []
        while found := _BRACES.search(self._text, self._place):
            parts += self._plain(found.start())
            self._place = found.end()
            if found[0] == "{":
                parts.append(self._group())
            elif found[0] == "}":
                raise self._error(
                    "a } has no { before it; a brace itself is written twice, and a group that begins with a group has "
                    "a blank between the braces: { {a|b} c|d}"
                )
            else:
                parts.append(Text(found[0][0]))
        return Joined((*parts, *self._plain(len(self._text))))

    def _plain(self, end: int) -> Iterator[Text]:
        text = self._text[self._place : end]
        self._place = end
        if wildcard := _WILDCARD.search(text):
            raise self._error(f"wildcards like {wildcard[0]} are not supported; list the words: {{red|blue}}")
        if text:
            yield Text(text)

    def _group(self) -> Node:
        """Parse a group, whose opening brace has been read."""
        self._refuse_unsupported(self._place)
        self._open.append(self._place - 1)
        if len(self._open) > MOST_NESTED:
            raise self._error(f"groups are nested deeper than {MOST_NESTED} levels")
        some = self._some()
        options = [self._option()]
        while self._text[self._place] == "|":
            self._place += 1
            options.append(self._option())
        self._place += 1
        self._open.pop()
        if len(options) == 1 and some is None:
            return self._single(options[0])
        distinct = tuple(dict.fromkeys(options))
        return OneOf(distinct) if some is None else self._selections(distinct, some)

    def _refuse_unsupported(self, place: int) -> None:
        if self._text[place - 2 : place - 1] == "$" and self._text[place - 3 : place - 1] != "$$":
            raise self._error("variables (${…}) are not supported; {name} is a column, which --input can give")
        if self._text[place : place + 1] in ("~", "@"):
            raise self._error("samplers ({~…} and {@…}) are not supported; --sample picks some of all prompts")

    def _some(self) -> re.Match[str] | None:
        """Parse how many options are taken, if the group says so."""
        found = _SOME.match(self._text, self._place)
        if found:
            self._place = found.end()
            if found["least"] is None and found["most"] is None:
                raise self._error("before $$ stands how many are taken: {2$$a|b|c} or {1-2$$ and $$a|b|c}")
        elif _MISPLACED.match(self._text, self._place):
            raise self._error("before $$ stands how many are taken: {2$$a|b|c} or {1-2$$ and $$a|b|c}")
        return found

    def _option(self) -> Joined:
        """Parse an option, up to the | or } that ends it."""
        if _WEIGHT.match(self._text, self._place):
            raise self._error("weights ({2::a|b}) are not supported; each variant is made once")
        if nested := _BLANKS.match(self._text, self._place):
            self._place = nested.end()
        parts: list[Node] = []
        while found := _STRUCTURE.search(self._text, self._place):
            parts += self._plain(found.start())
            if found[0] != "{":
                return Joined(tuple(parts))
            self._place = found.end()
            parts.append(self._group())
        self._place = self._open[-1]
        raise self._error("a { has no } behind it; a brace itself is written twice")

    def _single(self, option: Joined) -> Node:
        """Return what braces without a | are: a column, unless they contain groups."""
        if any(not isinstance(part, Text) for part in option.parts):
            return option
        name = option.make(0, {}).strip()
        if not name:
            raise self._error("{} is empty; a brace itself is written twice")
        self.names.add(name)
        return Column(name)

    def _selections(self, options: tuple[Joined, ...], some: re.Match[str]) -> Node:
        """Return all selections of the options in every order, as dynamic prompts makes them."""
        least = int(some["least"]) if some["least"] else 1
        most = int(some["most"]) if some["most"] else len(options) if some["range"] else least
        least, most = sorted((min(least, len(options)), min(most, len(options))))
        if sum(math.perm(len(options), number) for number in range(least, most + 1)) > MOST_SELECTIONS:
            raise self._error(f"a group has more than {MOST_SELECTIONS:,} selections; take fewer, or of fewer options")
        between = ", " if some["between"] is None else some["between"]
        numbers = range(least, most + 1)
        return OneOf(tuple(Joined(taken, between) for number in numbers for taken in permutations(options, number)))

    def _error(self, message: str) -> TemplateError:
        return TemplateError(f"at character {self._place + 1} of the template: {message}")
