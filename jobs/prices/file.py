"""prices.toml: the rate cards that were fetched or written by hand, and everything that is wrong with them."""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from jobs.errors import PriceError, Problem
from jobs.names import model_problem
from jobs.prices.criteria import CRITERIA, Value, normalize
from jobs.prices.metrics import METRICS
from jobs.prices.rate_card import Rate, RateCard, Tier
from jobs.text import printable
from jobs.toml_lines import find_lines, line_of, syntax_problem

MOST_DOLLARS = 10_000
MOST_PER = 1_000_000_000


def load_cards(path: Path) -> dict[str, RateCard]:
    """Read the rate cards by their models, none when there is no file; PriceError names all that is wrong."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PriceError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _refusal(path, [Problem(line, "not UTF-8")]) from None
    return parse_cards(text, path)


def parse_cards(text: str, path: Path) -> dict[str, RateCard]:
    """Read the text of such a file; `path` is for the sentences of a PriceError."""
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise _refusal(path, [syntax_problem(error, text)]) from None
    try:
        file = _File.model_validate(document)
    except ValidationError as error:
        lines = find_lines(text, "model")
        problems = [Problem(line_of(lines, fault["loc"]), _sentence(fault)) for fault in error.errors()]
        raise _refusal(path, sorted(problems, key=lambda problem: problem.line)) from None
    return {entry.name: entry.card() for entry in file.model}


def _refusal(path: Path, problems: list[Problem]) -> PriceError:
    count = f"{len(problems)} error{'s' if len(problems) > 1 else ''}"
    return PriceError("\n".join([f"{path}: {count}", *(f"  {problem}" for problem in problems)]))


def _sentence(fault: Any) -> str:
    key = next((part for part in reversed(fault["loc"]) if isinstance(part, str)), "the file")
    if fault["type"] == "extra_forbidden":
        return f"unknown key {printable(key)!r}"
    if fault["type"] == "missing":
        return f"there is no {key}"
    said = fault["msg"].removeprefix("Value error, ")
    return said if fault["type"] == "value_error" else f"{printable(key)}: {said.replace('Input should', 'it should')}"


def _number(value: Any) -> Any:
    number = Decimal(value) if type(value) in (int, Decimal) else None
    if number is None:
        raise ValueError(f"{value!r} is not a number: write it without quotes and currency, such as 0.003")
    if not number.is_finite() or len(number.as_tuple().digits) > 30:
        raise ValueError(f"{value} is not a number with at most 30 digits")
    return number


def _metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"there is no metric {printable(name)!r}; there are {', '.join(METRICS)}")
    return name


def _criterion(name: str) -> str:
    if name not in CRITERIA:
        raise ValueError(f"there is no criterion {printable(name)!r}; there are {', '.join(CRITERIA)}")
    return name


def _value(value: Any) -> Value:
    found = normalize(value)
    if found is None:
        raise ValueError("a criterion is text, a number, true or false")
    return found


def _model(name: str) -> str:
    if problem := model_problem(name):
        raise ValueError(problem)
    return name


def _known_name(name: str) -> str:
    if name not in METRICS and name not in CRITERIA:
        raise ValueError(f'{printable(name)!r} is neither a metric nor a criterion; write metric = "input"')
    return name


def _json(value: Any) -> Any:
    if type(value) in (str, int, bool):
        return value
    if isinstance(value, Decimal):
        return float(value)
    raise ValueError("a default is text, a number, true or false")


Number = Annotated[Decimal, BeforeValidator(_number)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Rate(_Table):
    metric: Annotated[str, AfterValidator(_metric)]
    dollars: Annotated[Number, Field(ge=0, le=MOST_DOLLARS)]
    per: Annotated[int, Field(ge=1, le=MOST_PER)] = 1


class _Tier(_Table):
    prices: Annotated[list[_Rate], Field(min_length=1)]
    criteria: dict[Annotated[str, AfterValidator(_criterion)], Annotated[Any, AfterValidator(_value)]] = {}

    def tier(self) -> Tier:
        return Tier(tuple(Rate(rate.metric, rate.dollars, rate.per) for rate in self.prices), self.criteria)


class _Model(_Table):
    name: Annotated[str, AfterValidator(_model)]
    source: str = ""
    date: dt.date | None = None
    prices: list[_Rate] = []
    tier: list[_Tier] = []
    defaults: dict[str, Annotated[Any, AfterValidator(_json)]] = {}
    at_most: dict[Annotated[str, AfterValidator(_metric)], Annotated[Number, Field(ge=0, le=10**12)]] = {}
    inputs: dict[Annotated[str, AfterValidator(_known_name)], str] = {}

    @model_validator(mode="after")
    def _check_tiers(self) -> _Model:
        if bool(self.prices) == bool(self.tier):
            raise ValueError(f"{self.name} needs either prices = [{{ metric = …, dollars = … }}] or [[model.tier]]s")
        if problem := tiers_problem(self.card().tiers):
            raise ValueError(f"{self.name}: {problem}")
        return self

    def card(self) -> RateCard:
        tiers = self.tier or [_Tier(prices=self.prices)]
        return RateCard(
            self.name,
            tuple(tier.tier() for tier in tiers),
            source=self.source,
            date=self.date,
            defaults=self.defaults,
            at_most=self.at_most,
            inputs=self.inputs,
        )


class _File(_Table):
    model: list[_Model] = []

    @model_validator(mode="after")
    def _check_names(self) -> _File:
        names = [entry.name for entry in self.model]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"{twice} stands there twice: keep one of the two")
        return self


def tiers_problem(tiers: tuple[Tier, ...]) -> str | None:
    """Why it would not be certain which of these tiers fits a prediction, or what it counts; None if it is."""
    names = {frozenset(tier.criteria) for tier in tiers}
    if len(names) > 1:
        return "its tiers have different criteria, so that two of them could hold at once"
    values = [tuple(sorted(tier.criteria.items(), key=lambda item: item[0])) for tier in tiers]
    if any(values.count(each) > 1 for each in values):
        return "two of its tiers have the same criteria"
    if any(len({rate.metric for rate in tier.rates}) < len(tier.rates) for tier in tiers):
        return "a tier counts one metric twice"
    return None


def write_card(text: str, card: RateCard) -> str:
    """The text of the file with this card in the place of the one of the same model, or at its end."""
    blocks = list(_blocks(text))
    entry = "\n".join(_lines(card)) + "\n"
    for number, block in enumerate(blocks):
        if number and parse_cards(block, Path("prices.toml")).keys() == {card.model}:
            blocks[number] = entry + ("\n" if number < len(blocks) - 1 else "")
            return "".join(blocks)
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    return text + gap + entry


def _blocks(text: str) -> Iterator[str]:
    """What comes before the first [[model]], then each with what follows it."""
    block: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.split("#")[0].replace(" ", "").strip() == "[[model]]":
            yield "".join(block)
            block = []
        block.append(line)
    yield "".join(block)


def _lines(card: RateCard) -> Iterator[str]:
    yield "[[model]]"
    yield f"name = {_toml(card.model)}"
    if card.source:
        yield f"source = {_toml(card.source)}"
    if card.date:
        yield f"date = {card.date.isoformat()}"
    for key in ("defaults", "at_most", "inputs"):
        if table := getattr(card, key):
            yield f"{key} = {_inline(table)}"
    if len(card.tiers) == 1 and not card.tiers[0].criteria:
        yield _prices(card.tiers[0])
        return
    for tier in card.tiers:
        yield from ("", "[[model.tier]]", f"criteria = {_inline(tier.criteria)}", _prices(tier))


def _prices(tier: Tier) -> str:
    rates = (
        {"metric": rate.metric, "dollars": rate.dollars} | ({} if rate.per == 1 else {"per": rate.per})
        for rate in tier.rates
    )
    return f"prices = [{', '.join(map(_inline, rates))}]"


def _inline(table: Mapping[str, Any]) -> str:
    return "{ " + ", ".join(f"{_key(key)} = {_toml(value)}" for key, value in table.items()) + " }"


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "").replace("-", "").isalnum() else _toml(key)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
    return f"{value:f}" if isinstance(value, Decimal) else repr(value)
