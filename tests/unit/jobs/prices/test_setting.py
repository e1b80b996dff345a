from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.config import Config
from jobs.errors import ConfigError
from jobs.prices.money import MICRO, MOST_COST, MOST_PRICE, dollars, dollars_text, micro_dollars, money
from jobs.prices.setting import LONGEST, MOST_RATE, Price, Prices

VERSION = "0123456789abcdef" * 4
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,12}", fullmatch=True)
MODELS = st.one_of(
    st.builds("{}/{}".format, NAMES.filter(lambda name: name != "deployments"), NAMES),
    st.builds("deployments/{}/{}".format, NAMES, NAMES),
    st.just(VERSION),
    st.just(f"owner/name:{VERSION}"),
)
PRICES = st.one_of(
    st.builds(Price, st.integers(0, MOST_PRICE)),
    st.builds(Price, per_second=st.integers(1, MOST_RATE), most=st.integers(1, MOST_PRICE)),
)


@given(st.dictionaries(MODELS, PRICES, max_size=5))
def test_what_is_written_is_read_again(by_model: dict[str, Price]) -> None:
    assert Prices.parse(str(Prices(by_model))) == Prices(by_model)


@given(st.integers(0, MOST_COST))
def test_no_amount_drifts(micro: int) -> None:
    assert micro_dollars(dollars_text(micro)) == micro
    assert micro_dollars(f"{Decimal(micro) / MICRO:f}") == micro
    assert round(dollars(micro) * MICRO) == micro


@given(st.integers(1, MOST_RATE), st.integers(0, LONGEST * 1000))
def test_seconds_are_counted_as_they_are_written(rate: int, milliseconds: int) -> None:
    """Rounded up to a micro-dollar, and not by one more because 2.3 is no binary fraction."""
    exact = Decimal(rate) * milliseconds / 1000
    cost = Price(per_second=rate, most=1).actual(milliseconds / 1000)
    assert cost - 1 < exact <= cost


@given(st.text(max_size=60))
def test_any_text_is_prices_or_a_sentence(text: str) -> None:
    try:
        prices = Prices.parse(text)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - either outcome is right
    else:
        assert Prices.parse(str(prices)) == prices


def test_a_price_is_found_by_the_model_as_a_row_names_it() -> None:
    prices = Prices.parse(f"a/b=1, a/b:{VERSION}=2, {VERSION}=3, deployments/a/b=0.5/s max 4, a/free=0")
    assert prices.of("a/b") == Price(1_000_000)
    assert prices.of(f"a/b:{'f' * 64}") == Price(1_000_000)
    assert prices.of(f"a/b:{VERSION}") == Price(2_000_000)
    assert prices.of(VERSION) == Price(3_000_000)
    assert prices.of("deployments/a/b") == Price(per_second=500_000, most=4_000_000)
    assert prices.of("a/free") == Price(0)
    assert [prices.of(model) for model in ("a/c", "f" * 64, "deployments/a/c")] == [None] * 3


@pytest.mark.parametrize(
    ("text", "reserved", "costs"),
    [
        ("a/b=0.003", 3000, {None: 3000, 7.5: 3000}),
        ("a/b = .003", 3000, {}),
        ("a/b=1.4e-3/s max 0.5", 500_000, {0: 0, 1.0: 1400, 2.3: 3220, 0.0001: 1, 1000: 1_400_000}),
        ("a/b=0.0014 / s max 0.5", 500_000, {None: 500_000, -1.0: 500_000, "2": 500_000, True: 500_000}),
        ("a/b=0.0014/s max 0.5", 500_000, {float("nan"): 500_000, float("inf"): 500_000, 1e300: 500_000}),
        (" a/b=0.0014/s  max  0.5 ,\n", 500_000, {}),
    ],
)
def test_a_price_says_what_to_reserve_and_what_it_came_to(text: str, reserved: int, costs: dict[Any, int]) -> None:
    price = Prices.parse(text).of("a/b")
    assert price is not None
    assert price.reserved == reserved
    assert {seconds: price.actual(seconds) for seconds in costs} == costs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a/b=0.003, c/d", "'c/d': write MODEL=DOLLARS, or MODEL=DOLLARS/s max DOLLARS"),
        ("a/b=0,003", "'003': write MODEL=DOLLARS"),
        ("flux=0.003", "'flux=0.003': 'flux' is not a model"),
        ("a/b=$0.003", "'$0.003' is no amount in dollars"),
        ("a/b=-1", "'-1' is no amount"),
        ("a/b=nan", "'nan' is no amount"),
        ("a/b=1_0", "'1_0' is no amount"),
        ("a/b=0.0000001", "0.0000001 has more than six decimals"),
        ("a/b=10001", "10001 dollars are too many; 10000 is the most"),
        ("a/b=1e99", "1e99 dollars are too many"),
        ("a/b=101/s max 5", "101 dollars are too many; 100 is the most"),
        ("a/b=0.1/s", "'a/b=0.1/s': a price by the second needs the most that one prediction may cost"),
        ("a/b=0/s max 5", "must be above 0; a free model is MODEL=0"),
        ("a/b=1/s max 0", "must be above 0"),
        ("a/b=1/min max 5", "write MODEL=DOLLARS"),
        ("a/b=1, a/b=2", "'a/b=2': the model has a price already"),
    ],
)
def test_a_wrong_entry_is_named(monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    monkeypatch.setenv("BATCH_PRICES", text)
    with pytest.raises(ConfigError) as caught:
        Config.load()
    assert "BATCH_PRICES (it is " in str(caught.value)
    assert said in str(caught.value)


def test_prices_are_a_setting() -> None:
    assert not Config.load().prices
    Path(".env").write_text('BATCH_PRICES="a/b=0.003, c/d=0.0014/s max 0.50"\n')
    assert str(Config.load().prices) == "a/b=0.003, c/d=0.0014/s max 0.5"


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0.00"),
        (0.000225, "$0.000225"),
        (0.0000004, "$0.00"),
        (0.003, "$0.003"),
        (0.012345, "$0.0123"),
        (0.3, "$0.30"),
        (0.9996, "$1.00"),
        (1, "$1.00"),
        (12.345, "$12.35"),
        (1234567.8, "$1,234,567.80"),
    ],
)
def test_amounts_are_for_people(amount: float, text: str) -> None:
    assert money(amount) == text


def test_the_largest_sums_are_exact() -> None:
    assert micro_dollars("10000000") == MOST_COST < 10**14
    assert Price(per_second=MOST_RATE, most=1).actual(LONGEST) < 10**14
    with pytest.raises(ValueError, match="10000000 is the most"):
        micro_dollars("10000000.000001")
