from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jobs.config import Config
from jobs.prices.file import load_cards
from jobs.prices.setting import Prices

Cli = Callable[..., Any]
MODELS = ["simulator/image", "simulator/poster", "simulator/film", "simulator/tokens", "simulator/text"]


@pytest.fixture
def config(config: Config) -> Config:
    return config.model_copy(update={"pages_url": config.replicate_base_url})


def test_rate_cards_are_fetched_and_listed(cli: Cli, config: Config, tmp_path: Path) -> None:
    answer = cli("prices", "fetch", *MODELS)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines()[0] == "simulator/image: $3.00 per 1,000 output images"
    cards = load_cards(tmp_path / "prices.toml")
    assert list(cards) == MODELS
    assert cards["simulator/image"].defaults == {"num_outputs": 1}
    assert cards["simulator/image"].at_most == {"image_output_count": 4}
    assert cards["simulator/image"].source == f"{config.pages_url}/simulator/image"
    film = cards["simulator/film"]
    assert film.cost_range({}).most == film.cost_range({"duration": 8, "generate_audio": True}).least == 3_200_000
    assert film.cost_range({"resolution": "1080p", "generate_audio": False, "duration": 4}).most == 1_200_000
    listed = json.loads(cli("prices", "--json", prices=Prices.parse("a/b=0.5, simulator/image=1")).out)
    assert [one["model"] for one in listed] == ["a/b", *MODELS]
    assert listed[0] == {"model": "a/b", "price": "$0.5", "source": "BATCH_PRICES", "date": None}
    shown = cli("prices").out
    assert "$0.000225 per second" in shown


def test_what_cannot_be_read_is_a_sentence(cli: Cli, tmp_path: Path) -> None:
    answer = cli("prices", "fetch", "simulator/community", "simulator/json", "simulator/none", "deployments/a/b")
    assert answer.code == 1
    assert [line.split(": ", 1)[1] for line in answer.out.splitlines()][:2] == [
        "its page says only 'from $0.01', which is not a certain price",
        "its page names no price",
    ]
    assert "/simulator/none answers 404" in answer.out
    assert "deployments/a/b: only owner/name has a public page" in answer.out
    assert not (tmp_path / "prices.toml").exists()
    assert "No price is known" in cli("prices").out
    refused, fetch = cli("prices", "fetch"), "as in `python -m jobs prices fetch owner/name`"
    assert (refused.code, refused.err) == (2, f"Error: prices.toml names no model yet: say which, {fetch}\n")


def test_a_price_that_somebody_wrote_stays(cli: Cli, config: Config, tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    own = '[[model]]\nname = "simulator/image"\nprices = [{ metric = "run_count", dollars = 0.1 }]\n'
    file.write_text(own)
    answer = cli("prices", "fetch")
    assert answer.out.startswith("simulator/image: prices.toml has its own price, which stays; the page says $3.00 per")
    assert file.read_text() == own
    url = f"{config.pages_url}/simulator/image"
    file.write_text(
        own.replace('image"\n', f'image"\nsource = "{url}"\nat_most = {{ image_output_count = 2, predict_time = 9 }}\n')
    )
    assert cli("prices", "fetch").code == 0
    card = load_cards(file)["simulator/image"]
    assert card.metrics == ("image_output_count",)
    assert card.at_most == {"image_output_count": Decimal(4), "predict_time": Decimal(9)}
    file.write_text("[[model]]\nnome = 1\n")
    wrong = cli("prices")
    assert (wrong.code, wrong.out) == (2, "")
    assert "prices.toml: 2 errors\n  line 1: there is no name" in wrong.err
