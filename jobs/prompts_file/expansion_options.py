"""The options that make many rows of one, as the command line and schedules give them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jobs.expansion.expansion import Expansion, Sample
from jobs.expansion.matrix import build_matrix
from jobs.expansion.template import read_template
from jobs.expansion.value_list import read_values
from jobs.prompts_file.columns import read_mapping


class OptionError(ValueError):
    """What is wrong with an option; `option` is its name, with underscores."""

    def __init__(self, option: str, message: str) -> None:
        self.option = option
        super().__init__(message)


@dataclass(frozen=True)
class ExpansionOptions:
    """Each field is an option."""

    each: Sequence[str] = ()
    repeat: int | None = None
    seed_from: int | None = None
    template: str | None = None
    dynamic_prompts: bool = False
    sample: int | None = None
    sample_seed: int | None = None
    map: Sequence[str] = ()

    def build(self, convert: Callable[[str, Any], Any] | None = None) -> Expansion | None:
        """What they say, None when none is given; OptionError. `convert` is for the values of `each`."""
        self._check()
        with _errors_of("map"):
            columns = read_mapping(self.map)
        with _errors_of("each"):
            lists = [read_values(text, convert) if convert else read_values(text) for text in self.each]
            matrix = build_matrix(lists, self.repeat, self.seed_from)
        with _errors_of("template"):
            template = read_template(self.template) if self.template is not None else None
            sample = Sample(self.sample, self.sample_seed or 0) if self.sample else None
            expansion = Expansion(matrix, template, self.dynamic_prompts, sample, columns)
            expansion.check()
        is_given = self.each or self.repeat or template or self.dynamic_prompts or columns
        return expansion if is_given else None

    def _check(self) -> None:
        if self.seed_from is not None and self.repeat is None:
            raise OptionError("seed_from", "it needs --repeat: it is the seed of the first repeat")
        if self.template is not None and self.dynamic_prompts:
            raise OptionError("template", "--template and --dynamic-prompts exclude each other")
        if self.sample and self.template is None and not self.dynamic_prompts:
            raise OptionError("sample", "it needs --template or --dynamic-prompts")
        if self.sample_seed is not None and not self.sample:
            raise OptionError("sample_seed", "it needs --sample")


@contextmanager
def _errors_of(option: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise OptionError(option, str(error)) from None
