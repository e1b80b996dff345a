"""`prices`: what is known of the costs of models, and `prices fetch`, which reads the rate cards of their pages."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel

from jobs import terminal
from jobs.cli import options
from jobs.cli.tables import Column, Columns
from jobs.config import Config
from jobs.errors import InputError, ReplicateError
from jobs.names import model_problem
from jobs.printer import Printer
from jobs.terminal import print_lines

if TYPE_CHECKING:
    from jobs.prices.rate_card import RateCard

app = typer.Typer(
    no_args_is_help=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
)


class KnownPrice(BaseModel):
    """A price as `prices --json` prints it: in words, and where it is from."""

    model: str
    price: str
    source: str
    date: dt.date | None = None


@app.callback(invoke_without_command=True)
def prices(context: typer.Context, *, as_json: options.AsJson = False) -> None:
    """List the prices of models that are known."""
    if context.invoked_subcommand:
        return
    config = Config.load()
    found = list(_known_prices(config))
    if as_json:
        typer.echo(terminal.as_json(found))
        return
    table = Columns(
        [
            Column("model", [one.model for one in found]),
            Column("price", [one.price for one in found], wraps=True),
            Column("date", [str(one.date or "") for one in found], gives_way=1),
            Column("source", [one.source for one in found], gives_way=2),
        ]
    )
    none = "No price is known: `python -m jobs prices fetch MODEL` reads those of Replicate's pages."
    Printer().show(table, [] if found else [none])


@app.command()
def fetch(
    models: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Default: all in the file.")] = None,
) -> None:
    """Read rate cards from the public pages of models into prices.toml."""
    from jobs.prices.file import load_cards

    config = Config.load()
    known = load_cards(config.prices_file)
    names = list(dict.fromkeys(models or known))
    if not names:
        raise InputError(
            f"{config.prices_file} names no model yet: say which, as in `python -m jobs prices fetch owner/name`"
        )
    for name in names:
        if problem := model_problem(name):
            raise InputError(problem)
    found = asyncio.run(_fetch_all(names, config))
    print_lines(card if isinstance(card, str) else _keep(config, card) for card in found)
    raise typer.Exit(1 if any(isinstance(card, str) for card in found) else 0)


def _known_prices(config: Config) -> Iterator[KnownPrice]:
    from jobs.prices.price_list import PriceList

    known = PriceList.load(config)
    for model, price in known.setting.by_model.items():
        yield KnownPrice(model=model, price=f"${price}", source="BATCH_PRICES")
    for model, card in known.cards.items():
        if model not in known.setting.by_model:
            source = card.source or str(config.prices_file)
            yield KnownPrice(model=model, price=str(card), source=source, date=card.date)


async def _fetch_all(models: Sequence[str], config: Config) -> list[RateCard | str]:
    from jobs.replicate_api.client import api_client, page_client

    async with page_client(config) as pages, api_client(config) as api:
        found: list[RateCard | str] = []
        for model in models:
            card = await _fetch(pages, model, config)
            if not isinstance(card, str) and config.replicate_api_token:
                card = await _fill(api, card)
            found.append(card)
        return found


async def _fetch(pages: Any, model: str, config: Config) -> RateCard | str:
    from jobs.prices.page import read_page
    from jobs.replicate_api import client

    name = model.partition(":")[0]
    if name.count("/") != 1:
        return f"{model}: only owner/name has a public page"
    try:
        status, html = await client.read_page(pages, f"/{name}")
    except ReplicateError as error:
        return f"{model}: {error}"
    if status != 200:
        return f"{model}: {config.pages_url}/{name} answers {status}"
    return read_page(html, name, f"{config.pages_url}/{name}", dt.datetime.now(dt.UTC).date())


async def _fill(api: Any, card: RateCard) -> RateCard:
    """The card with what the model's schema says of the inputs that it depends on, if the API tells."""
    from jobs.prices.schema_defaults import with_schema
    from jobs.replicate_api.client import call

    try:
        body = (await call(api, "GET", f"/v1/models/{card.model}")).body
        schema = body["latest_version"]["openapi_schema"]["components"]["schemas"]["Input"]["properties"]
    except (ReplicateError, KeyError, TypeError):
        return card
    return with_schema(card, schema) if isinstance(schema, Mapping) else card


def _keep(config: Config, card: RateCard) -> str:
    """Write a card into the file unless somebody wrote one by hand; a sentence on it."""
    from jobs.batch_folder.atomic_files import replacing, storing
    from jobs.prices.file import load_cards, parse_cards, write_card

    path = config.prices_file
    before = load_cards(path).get(card.model)
    if before and before.source != card.source:
        return f"{card.model}: {path} has its own price, which stays; the page says {card}"
    if before:
        defaults, at_most = {**before.defaults, **card.defaults}, {**before.at_most, **card.at_most}
        card = replace(card, defaults=defaults, at_most=at_most, inputs=before.inputs)
    with storing(path):
        text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
    text = write_card(text, card)
    parse_cards(text, path)
    with replacing(path, fsync=config.fsync) as file:
        file.write(text.encode())
    return f"{card.model}: {card}"
