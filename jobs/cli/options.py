"""What the commands take from the command line: each argument and option once, checked as it is read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, field, fields
from datetime import datetime, time, timedelta
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.budget import MOST_PREDICTIONS, Budget
from jobs.cli.shell import candidates
from jobs.cli.shell.window import ringing
from jobs.expansion.value_list import MOST, NO_INPUTS, json_or_text
from jobs.prices.money import micro_dollars
from jobs.text import as_typed

if TYPE_CHECKING:
    from jobs.enqueue.enqueue import Order
    from jobs.enqueue.order import RowSource
    from jobs.expansion.expansion import Expansion

Command = Callable[..., None]

_AGO, _UNITS = re.compile(r"(\d{1,6})([mhd])"), {"m": "minutes", "h": "hours", "d": "days"}


def check_priority(value: float | None) -> float | None:
    """A priority, if one is given."""
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter("it must be a number above 0")
    return value


def read_dollars(text: str) -> int:
    """Dollars above 0 in micro-dollars."""
    if not (micro := _read_threshold(text)):
        raise typer.BadParameter("it must be above 0")
    return micro


def _read_threshold(text: str) -> int:
    try:
        return micro_dollars(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _read_clock(text: str) -> datetime:
    """The next time that a local clock shows this."""
    try:
        clock = time.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time of day, such as 07:00") from None
    now = datetime.now().astimezone()
    today = now.replace(hour=clock.hour, minute=clock.minute, second=0, microsecond=0)
    return today if today > now else (today + timedelta(days=1)).replace(tzinfo=None).astimezone()


def _read_moment(text: str) -> datetime:
    """A date or time, the machine's own unless it has a zone, or so long ago: `90m`, `2h`, `1d`."""
    if found := _AGO.fullmatch(text):
        return datetime.now().astimezone() - timedelta(**{_UNITS[found[2]]: float(found[1])})
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        reason = f"{text!r} is no date or time, such as 2026-11-01, 2026-11-01T08:00 or 2h (ago)"
        raise typer.BadParameter(reason) from None


Source = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE",
        help="Prompts: .jsonl, .jsonl.gz, .csv, .tsv, .txt, .parquet, .arrow; a dataset folder; -: stdin.",
    ),
]
EachFile = Annotated[
    str | None,
    typer.Option("--each-file", metavar="PATTERN", help="In place of FILE: a row for each file, 'stills/*.png'."),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="BATCH",
        autocompletion=candidates.batches,
        help="In place of FILE: a row for each output of a batch.",
    ),
]
As = Annotated[
    str | None,
    typer.Option("--as", metavar="KEY", help="The input that these files are; default: the only one of its kind."),
]
Name = Annotated[str | None, typer.Option(help="Name of the batch and its folder; default: the file's stem.")]
Model = Annotated[
    str | None,
    typer.Option(help="Model of the rows that name none; default: BATCH_MODEL.", autocompletion=candidates.models),
]
Input = Annotated[list[str], typer.Option("--input", metavar="KEY=VALUE", help="Input of the rows that lack it.")]
Each = Annotated[
    list[str], typer.Option("--each", metavar="KEY=VALUES", help="Each row once a value: seed=1..4, model=a/b,c/d.")
]
Repeat = Annotated[int | None, typer.Option(min=1, max=MOST, metavar="N", help="Each row so many times.")]
SeedFrom = Annotated[int | None, typer.Option(metavar="SEED", help="With --repeat: the seeds, counted from here.")]
Template = Annotated[
    str | None, typer.Option(metavar="TEXT", help="The prompt of each row: a {red|blue} {column}; {{ is a brace.")
]
OwnTemplates = Annotated[bool, typer.Option("--dynamic-prompts", help="The rows' own prompts are such templates.")]
SampleSize = Annotated[
    int | None, typer.Option("--sample", min=1, metavar="N", help="At most N prompts of each template and row.")
]
SampleSeed = Annotated[int | None, typer.Option(metavar="SEED", help="Which ones; default: 0.")]
Map = Annotated[
    list[str], typer.Option("--map", metavar="OLD=NEW", help="Another name for a column; OLD= leaves it out.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many prompts: a pilot.")]
Priority = Annotated[float, typer.Option(callback=check_priority, help="2 gets twice the share of 1.")]
Append = Annotated[bool, typer.Option("--append", help="Also to a batch that was enqueued from another file.")]
Replace = Annotated[bool, typer.Option("--replace", help="Take corrected rows of prompts that did not succeed.")]
NoModelCheck = Annotated[
    bool, typer.Option("--no-model-check", help="Do not check rows against their models' schemas.")
]
AllowUnknown = Annotated[bool, typer.Option("--allow-unknown", help="Let keys pass that a model's schema lacks.")]
AllowLiteralSecrets = Annotated[
    bool,
    typer.Option("--allow-literal-secrets", help="Take secrets from the file: Redis and the batch's copy hold them."),
]
CopyInputs = Annotated[
    bool, typer.Option("--copy-inputs", help="Copy the files that rows name into the batch's folder.")
]
KeepUploads = Annotated[bool, typer.Option("--keep-uploads", help="Do not delete uploads when the batch ends.")]
MaxPredictions = Annotated[
    int | None,
    typer.Option(min=1, max=MOST_PREDICTIONS, metavar="N", help="Never create more for this batch, in all its life."),
]
MaxCost = Annotated[
    int | None,
    typer.Option(parser=read_dollars, metavar="DOLLARS", help="Never spend more on it; needs all prices."),
]
ConfirmAbove = Annotated[
    int | None,
    typer.Option(
        parser=_read_threshold, metavar="DOLLARS", help="Ask first if it may cost more, or that is not known."
    ),
]
MaxInFlight = Annotated[
    int | None,
    typer.Option(min=1, max=MOST_PREDICTIONS, metavar="N", help="Never have more running, of all workers together."),
]
Bell = Annotated[bool, typer.Option("--bell", help="Ring the terminal's bell at the end.")]
By = Annotated[
    datetime | None,
    typer.Option(parser=_read_clock, metavar="HH:MM", help="Say first whether it can be done by then, or how many."),
]
PilotSize = Annotated[
    int | None, typer.Option("--pilot", min=1, metavar="N", help="Only the first N; then say what all will cost.")
]
PilotSeed = Annotated[
    int | None, typer.Option(metavar="SEED", help="With --pilot: N at random by this seed, not the first.")
]
Everything = Annotated[bool, typer.Option("--all", help="Work on all that is queued, not on this batch only.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what it would do and cost.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]
AsJsonLines = Annotated[bool, typer.Option("--json", help="Print the facts as JSON, one object a line.")]
Since = Annotated[
    datetime | None,
    typer.Option(parser=_read_moment, metavar="TIME", help="Only since then: 2026-11-01, 2026-11-01T08:00, 2h, 1d."),
]
BatchName = Annotated[str, typer.Argument(metavar="BATCH", help="Name of a batch.", autocompletion=candidates.batches)]
AnyBatch = Annotated[
    str | None, typer.Argument(metavar="BATCH", help="Name of a batch.", autocompletion=candidates.batches)
]


@dataclass(frozen=True)
class OrderOptions:
    """The options of an order, which `enqueue` and `run` share: each field is an option."""

    source: Source = None
    each_file: EachFile = None
    from_batch: From = None
    as_key: As = None
    name: Name = None
    model: Model = None
    given: Input = field(default_factory=list)
    each: Each = field(default_factory=list)
    repeat: Repeat = None
    seed_from: SeedFrom = None
    template: Template = None
    dynamic_prompts: OwnTemplates = False
    sample: SampleSize = None
    sample_seed: SampleSeed = None
    map: Map = field(default_factory=list)
    limit: Limit = None
    priority: Priority = 1.0
    max_predictions: MaxPredictions = None
    max_cost: MaxCost = None
    max_in_flight: MaxInFlight = None
    confirm_above: ConfirmAbove = None
    append: Append = False
    replace: Replace = False
    allow_unknown: AllowUnknown = False
    allow_literal_secrets: AllowLiteralSecrets = False
    no_model_check: NoModelCheck = False
    copy_inputs: CopyInputs = False
    keep_uploads: KeepUploads = False

    def order(self) -> Order:
        """What is to be enqueued; a usage error when the options do not go together."""
        from jobs.enqueue.enqueue import Order

        source = self._source()
        with usage_errors("--input"):
            given = read_input(self.given)
        return Order(
            source,
            name=self.name,
            model=self.model,
            input=given,
            expansion=self._expansion(),
            limit=self.limit,
            priority=self.priority,
            budget=Budget(self.max_predictions, self.max_cost, self.max_in_flight),
            append=self.append,
            replace=self.replace,
            allow_unknown=self.allow_unknown,
            allow_literal_secrets=self.allow_literal_secrets,
            model_check=not self.no_model_check,
            copy_inputs=self.copy_inputs,
            keep_uploads=self.keep_uploads,
        )

    def _source(self) -> str | RowSource:
        given = [self.source, self.each_file, self.from_batch]
        if sum(one is not None for one in given) != 1:
            reason = "give exactly one: a file, --each-file with a pattern in quotes ('stills/*.png'), or --from"
            raise typer.BadParameter(as_typed(reason), param_hint="FILE")
        if self.as_key is not None and (self.source is not None or self.as_key in (*NO_INPUTS, "model")):
            raise typer.BadParameter("it names the input for --each-file or --from", param_hint="--as")
        if self.source == "-" and not self.name:
            raise typer.BadParameter(as_typed("standard input needs a --name"), param_hint="FILE")
        if self.source is not None:
            return self.source
        if not (self.each_file or self.from_batch):
            raise typer.BadParameter("it is empty", param_hint="--from" if self.each_file is None else "--each-file")
        if self.each_file:
            from jobs.enqueue.file_rows import FileRows

            return FileRows(self.each_file, self.as_key)
        from jobs.enqueue.output_rows import OutputRows

        batch, _, file = str(self.from_batch).partition("/")
        return OutputRows(batch, file or None, self.as_key)

    def _expansion(self) -> Expansion | None:
        from jobs.input_files.command_line import with_absolute_paths
        from jobs.prompts_file.expansion_options import ExpansionOptions, OptionError

        options = ExpansionOptions(
            self.each,
            self.repeat,
            self.seed_from,
            self.template,
            self.dynamic_prompts,
            self.sample,
            self.sample_seed,
            self.map,
        )
        try:
            return options.build(with_absolute_paths)
        except OptionError as error:
            raise typer.BadParameter(str(error), param_hint=f"--{error.option.replace('_', '-')}") from None


@dataclass(frozen=True)
class BudgetOptions:
    """The options of a budget."""

    max_predictions: MaxPredictions = None
    max_cost: MaxCost = None
    max_in_flight: MaxInFlight = None

    def budget(self) -> Budget:
        """What they limit."""
        return Budget(self.max_predictions, self.max_cost, self.max_in_flight)


@contextmanager
def usage_errors(option: str) -> Iterator[None]:
    """What is wrong with an option is a usage error."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def takes(*groups: type[Any]) -> Callable[[Command], Command]:
    """Give a command the options of these dataclasses; its first parameters are what they say."""

    def with_options(command: Command) -> Command:
        shared = [_parameter(group, one) for group in groups for one in fields(group)]
        own = list(signature(command, eval_str=True).parameters.values())[len(groups) :]

        @wraps(command)
        def called(**given: Any) -> None:
            chosen = [group(**{one.name: given.pop(one.name) for one in fields(group)}) for group in groups]
            command(*chosen, **given)

        return _with_parameters(called, sorted([*shared, *own], key=lambda one: one.kind))

    return with_options


def can_ring(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the option that rings the terminal's bell at its end."""

    @wraps(command)
    def called(*given: Any, bell: bool, **options: Any) -> None:
        with ringing(wanted=bell):
            command(*given, **options)

    own = signature(command, eval_str=True).parameters.values()
    return _with_parameters(called, [*own, Parameter("bell", Parameter.KEYWORD_ONLY, default=False, annotation=Bell)])


def _with_parameters(command: Callable[..., None], parameters: list[Parameter]) -> Callable[..., None]:
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


def _parameter(group: type[Any], option: Field[Any]) -> Parameter:
    field = signature(group, eval_str=True).parameters[option.name]
    default = field.default if option.default_factory is MISSING else option.default_factory()
    return field.replace(kind=Parameter.KEYWORD_ONLY, default=default)


def read_input(pairs: Sequence[str]) -> dict[str, Any]:
    """`key=value` pairs as an input: a value is JSON if it parses, else text. ValueError names a wrong pair."""
    from jobs.input_files.command_line import with_absolute_paths

    values = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise ValueError(f"{pair!r} is not KEY=VALUE")
        values[key] = with_absolute_paths(key, json_or_text(text))
    return values
