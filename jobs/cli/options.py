"""What the commands take from the command line: each argument and option once, checked as it is read."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from jobs.budget import MOST_PREDICTIONS, Budget
from jobs.hints import as_typed
from jobs.prices.money import micro_dollars

if TYPE_CHECKING:
    from jobs.enqueue.enqueue import Order


def _check_priority(value: float) -> float:
    if not 0 < value < math.inf:
        raise typer.BadParameter("it must be a number above 0")
    return value


def _read_dollars(text: str) -> int:
    try:
        micro = micro_dollars(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not micro:
        raise typer.BadParameter("it must be above 0")
    return micro


Source = Annotated[str, typer.Argument(metavar="FILE", help="Prompts: .jsonl, .jsonl.gz, .csv, .txt; - is stdin.")]
Name = Annotated[str | None, typer.Option(help="Name of the batch and its folder; default: the file's stem.")]
Model = Annotated[str | None, typer.Option(help="Model of the rows that name none; default: BATCH_MODEL.")]
Input = Annotated[list[str], typer.Option("--input", metavar="KEY=VALUE", help="Input of the rows that lack it.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many prompts: a pilot.")]
Priority = Annotated[float, typer.Option(callback=_check_priority, help="2 gets twice the share of 1.")]
Append = Annotated[bool, typer.Option("--append", help="Also to a batch that was begun from another file.")]
Replace = Annotated[bool, typer.Option("--replace", help="Take corrected rows of prompts that did not succeed.")]
MaxPredictions = Annotated[
    int | None,
    typer.Option(min=1, max=MOST_PREDICTIONS, metavar="N", help="Never create more for this batch, in all its life."),
]
MaxCost = Annotated[
    int | None,
    typer.Option(parser=_read_dollars, metavar="DOLLARS", help="Never spend more on it; needs BATCH_PRICES."),
]
MaxInFlight = Annotated[
    int | None,
    typer.Option(min=1, max=MOST_PREDICTIONS, metavar="N", help="Never have more running, of all workers together."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]
BatchName = Annotated[str, typer.Argument(metavar="BATCH", help="Name of a batch.")]
AnyBatch = Annotated[str | None, typer.Argument(metavar="BATCH", help="Name of a batch.")]


def order_of(source: str, given: list[str], budget: Budget, **rest: Any) -> Order:
    """What is to be enqueued; a usage error when the options do not go together."""
    from jobs.enqueue.enqueue import Order

    if source == "-" and not rest["name"]:
        raise typer.BadParameter(as_typed("standard input needs a --name"), param_hint="FILE")
    try:
        return Order(source, input=read_input(given), budget=budget, **rest)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--input") from None


def read_input(pairs: Sequence[str]) -> dict[str, Any]:
    """`key=value` pairs as an input: a value is JSON if it parses, else text. ValueError names a wrong pair."""
    given = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise ValueError(f"{pair!r} is not KEY=VALUE")
        given[key] = json_or_text(text)
    return given


def json_or_text(text: str) -> Any:
    """The JSON value that the text is, else the text; NaN and Infinity are no JSON."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
