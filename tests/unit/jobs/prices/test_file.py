from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.config import Config
from jobs.errors import PriceError
from jobs.prices.criteria import CRITERIA, Value, normalize
from jobs.prices.file import load_cards, parse_cards, write_card
from jobs.prices.metrics import METRICS
from jobs.prices.price_list import PriceList
from jobs.prices.rate_card import Rate, RateCard, Tier
from jobs.prices.setting import Price, Prices

FLUX = """\
[[model]]
name = "black-forest-labs/flux-schnell"
source = "https://replicate.com/black-forest-labs/flux-schnell"
date = 2026-10-02
defaults = { num_outputs = 1 }
prices = [{ metric = "image_output_count", dollars = 3, per = 1000 }]
"""
VEO = """\
[[model]]
name = "google/veo-3"
at_most = { video_output_duration_seconds = 8 }

[[model.tier]]
criteria = { model_variant = "with_audio" }
prices = [{ metric = "video_output_duration_seconds", dollars = 0.40 }]

[[model.tier]]
criteria = { model_variant = "without_audio" }
prices = [{ metric = "video_output_duration_seconds", dollars = 0.2 }]
"""
PATH = Path("prices.toml")


def test_no_file_has_no_cards(tmp_path: Path) -> None:
    assert load_cards(tmp_path / "prices.toml") == {}
    assert parse_cards("# later\n", PATH) == {}


def test_cards_are_read() -> None:
    cards = parse_cards(f"{FLUX}\n{VEO}", PATH)
    assert list(cards) == ["black-forest-labs/flux-schnell", "google/veo-3"]
    flux, veo = cards.values()
    assert (flux.date, flux.defaults) == (dt.date(2026, 10, 2), {"num_outputs": 1})
    assert flux.tiers == (Tier((Rate("image_output_count", Decimal(3), 1000),)),)
    assert [tier.criteria for tier in veo.tiers] == [
        {"model_variant": "with_audio"},
        {"model_variant": "without_audio"},
    ]
    assert veo.tiers[0].rates[0].dollars == Decimal("0.40")
    assert veo.cost_range({"generate_audio": False}).most == 1_600_000


def changed(number: int, line: str, text: str = FLUX) -> str:
    lines = text.splitlines()
    lines[number - 1 : number] = [line] if line else []
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (changed(2, 'name = "flux"'), ["line 2: 'flux' is not a model: write owner/name"]),
        (changed(2, ""), ["line 1: there is no name"]),
        (changed(2, "name = 3"), ["line 2: name: it should be a valid string"]),
        (changed(3, "sauce = 1"), ["line 3: unknown key 'sauce'"]),
        (changed(4, 'date = "yesterday"'), ["line 4: date: it should be a valid date"]),
        (changed(5, "defaults = { a = [1] }"), ["line 5: a default is text, a number, true or false"]),
        (changed(5, "at_most = { images = 1 }"), ["line 5: there is no metric 'images'; there are run_count, "]),
        (changed(5, "at_most = { run_count = -1 }"), ["line 5: run_count: it should be greater than or equal to 0"]),
        (changed(5, 'inputs = { size = "x" }'), ["line 5: 'size' is neither a metric nor a criterion"]),
        (changed(6, ""), ["line 1: black-forest-labs/flux-schnell needs either prices = ["]),
        (changed(6, 'prices = [{ metric = "images", dollars = 1 }]'), ["line 6: there is no metric 'images'"]),
        (
            changed(6, 'prices = [{ metric = "run_count", dollars = "from $0.01" }]'),
            ["line 6: 'from $0.01' is not a number: write it without quotes and currency, such as 0.003"],
        ),
        (changed(6, 'prices = [{ metric = "run_count", dollars = nan }]'), ["line 6: NaN is not a number with"]),
        (changed(6, 'prices = [{ metric = "run_count", dollars = -1 }]'), ["line 6: dollars: it should be greater"]),
        (changed(6, 'prices = [{ metric = "run_count", dollars = 10001 }]'), ["line 6: dollars: it should be less"]),
        (changed(6, 'prices = [{ metric = "run_count", dollars = true }]'), ["line 6: True is not a number"]),
        (changed(6, 'prices = [{ metric = "run_count" }]'), ["line 6: there is no dollars"]),
        (changed(6, 'prices = [{ metric = "run_count", dollars = 1, per = 0 }]'), ["line 6: per: it should be"]),
        (
            changed(6, 'prices = [{ metric = "run_count", dollars = 1 }, { metric = "run_count", dollars = 1 }]'),
            ["line 1: black-forest-labs/flux-schnell: a tier counts one metric twice"],
        ),
        (VEO.replace("without_", "with_"), ["line 1: google/veo-3: two of its tiers have the same criteria"]),
        (changed(6, "", VEO), ["line 1: google/veo-3: its tiers have different criteria"]),
        (changed(6, 'criteria = { mood = "blue" }', VEO), ["line 6: there is no criterion 'mood'; there are model_va"]),
        (changed(6, "criteria = { model_variant = [] }", VEO), ["line 6: a criterion is text, a number,"]),
        (f"{FLUX}\n{FLUX}", ["black-forest-labs/flux-schnell stands there twice: keep one of the two"]),
        (f"{changed(2, 'name = 3')}\n{changed(3, 'sauce = 1')}", ["line 2: ", "line 9: "]),
        (f"{FLUX}[[models]]\n", ["line 7: unknown key 'models'"]),
        ("model = 3", ["line 1: model: it should be a valid list"]),
        ("[[model]\n", ["line 1: "]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(text: str, said: list[str]) -> None:
    with pytest.raises(PriceError) as caught:
        parse_cards(text, PATH)
    first, *lines = str(caught.value).splitlines()
    assert first == f"prices.toml: {len(said)} error{'s' if len(said) > 1 else ''}"
    for line, part in zip(lines, said, strict=True):
        assert part in line


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_bytes(b"# a\n\xff")
    with pytest.raises(PriceError, match="line 2: not UTF-8"):
        load_cards(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(PriceError, match="cannot be read: Is a directory"):
        load_cards(path)


NUMBERS = st.decimals(0, 10_000, allow_nan=False, places=9)
TEXT = st.text(max_size=8)


def fact(value: Any) -> Value:
    found = normalize(value)
    assert found is not None
    return found


FACTS = st.one_of(TEXT, st.booleans(), st.decimals(-1000, 1000, places=3)).map(fact)


@st.composite
def cards(draw: st.DrawFn) -> RateCard:
    names = draw(st.sets(st.sampled_from(sorted(CRITERIA)), max_size=2))
    rates = st.builds(Rate, st.sampled_from(sorted(METRICS)), NUMBERS, st.sampled_from([1, 1000, 10**6]))
    tiers = draw(
        st.lists(
            st.tuples(
                st.lists(rates, min_size=1, max_size=3, unique_by=lambda rate: rate.metric),
                st.fixed_dictionaries(dict.fromkeys(sorted(names), FACTS)),
            ),
            min_size=1,
            max_size=3 if names else 1,
            unique_by=lambda tier: tuple(tier[1][name] for name in sorted(names)),
        )
    )
    return RateCard(
        draw(st.from_regex(r"[a-z]{1,5}/[a-z]{1,5}", fullmatch=True)),
        tuple(Tier(tuple(rates), criteria) for rates, criteria in tiers),
        source=draw(TEXT),
        date=draw(st.none() | st.dates()),
        defaults=draw(st.dictionaries(TEXT, st.one_of(TEXT, st.integers(-9, 9), st.booleans()), max_size=2)),
        at_most=draw(st.dictionaries(st.sampled_from(sorted(METRICS)), NUMBERS, max_size=2)),
        inputs=draw(st.dictionaries(st.sampled_from(sorted(METRICS)), TEXT, max_size=2)),
    )


@given(cards(), cards(), st.sampled_from(["", "# mine\n", FLUX, f"# mine\n{VEO}", FLUX.rstrip()]))
@settings(max_examples=50, deadline=None)
def test_what_is_written_is_read_again(one: RateCard, two: RateCard, text: str) -> None:
    before = parse_cards(text, PATH)
    for card in (one, two, one):
        text = write_card(text, card)
    assert parse_cards(text, PATH) == before | {two.model: two} | {one.model: one}
    assert text.startswith("# mine") == ("# mine" in text)


def test_a_card_is_replaced_in_its_place() -> None:
    text = f"# ours\n{VEO}\n{FLUX}"
    cards = parse_cards(text, PATH)
    assert write_card(text, cards["google/veo-3"]) == text
    assert write_card("", cards["google/veo-3"]) == VEO.replace("0.2 }", "0.2 }")


def test_the_setting_wins_over_a_card_and_a_name_over_its_versions() -> None:
    cards = parse_cards(f"{FLUX}\n{VEO}", PATH)
    prices = PriceList(Prices.parse("google/veo-3=0.5"), cards)
    assert prices.of("google/veo-3") == prices.of(f"google/veo-3:{'0' * 64}") == Price(500_000)
    flux = cards["black-forest-labs/flux-schnell"]
    assert prices.of(flux.model) is prices.of(f"{flux.model}:{'0' * 64}") is flux
    assert prices.of("a/b") is prices.of("0" * 64) is None
    assert not PriceList()


def test_the_file_is_a_setting(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(FLUX)
    config = Config.load(prices_file=tmp_path / "mine.toml")
    assert PriceList.load(config).of("black-forest-labs/flux-schnell")
    assert not PriceList.load(Config.load())
