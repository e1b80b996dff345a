from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.prices.page import read_page
from jobs.prices.rate_card import Rate, RateCard, Tier

TODAY = dt.date(2026, 11, 28)
URL = "https://replicate.com/a/b"


def page(*props: Any) -> str:
    scripts = (f'<script type="application/json" id="x">{json.dumps(each)}</script>' for each in props)
    return f'<html><script>var x = {{"billingConfig": 1}}</script>{"".join(scripts)}</html>'


def price(metric: str, amount: str, title: str, **more: Any) -> dict[str, Any]:
    return {"metric": metric, "price": amount, "title": title, "type": "per-unit"} | more


def card_page(*tiers: dict[str, Any], **more: Any) -> str:
    return page(
        {"user": None}, {"model": {"owner": "a", "name": "b", "billingConfig": {"current_tiers": tiers}} | more}
    )


def read(html: str) -> RateCard | str:
    return read_page(html, "a/b", URL, TODAY)


IMAGE = price("image_output_count", "$0.035", "per output image")


def equals(title: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"title": title, "type": "equals", "value": value} | more


@pytest.mark.parametrize(
    ("metric", "amount", "title", "more", "per"),
    [
        ("image_output_count", "$0.035", "per output image", {}, 1),
        ("image_output_count", "$3.00", "per thousand output images", {}, 1000),
        ("token_output_count", "$1.60", "per million output tokens", {"metric_count": 10**6}, 10**6),
        ("character_input_count", "$0.02", "per thousand input characters", {}, 1000),
        ("run_count", "$0.015", "per run", {"type": "fixed"}, 1),
        ("video_output_duration_seconds", "$0.4", "Per second of  output video", {"metric_count": 1}, 1),
        ("unspecified_billing_metric", "$0.08", "per unit", {}, 1),
    ],
)
def test_a_price_is_read(metric: str, amount: str, title: str, more: dict[str, Any], per: int) -> None:
    found = read(card_page({"prices": [price(metric, amount, title, **more)]}))
    rate = Rate(metric, Decimal(amount[1:]), per)
    assert found == RateCard("a/b", (Tier((rate,)),), source=URL, date=TODAY)


def test_tiers_are_read() -> None:
    html = card_page(
        {"criteria": [equals("target resolution", "768P"), equals("second of output video", 6)], "prices": [IMAGE]},
        {"criteria": [equals("target resolution", "1080P"), equals("second of output video", 6)], "prices": [IMAGE]},
    )
    found = read(html)
    assert isinstance(found, RateCard)
    assert [dict(tier.criteria) for tier in found.tiers] == [
        {"resolution_target": "768p", "video_output_duration_seconds": 6},
        {"resolution_target": "1080p", "video_output_duration_seconds": 6},
    ]


def test_a_second_of_hardware_is_read() -> None:
    found = read(page({"model": {"owner": "a", "name": "b", "price": "$0.001525 per second"}}))
    assert isinstance(found, RateCard)
    assert found.tiers == (Tier((Rate("predict_time", Decimal("0.001525")),)),)


def test_prices_of_other_models_on_the_page_are_none() -> None:
    other = {
        "owner": "a",
        "name": "c",
        "billingConfig": {"current_tiers": [{"prices": [price("run_count", "$9", "per run")]}]},
    }
    found = read(card_page({"prices": [IMAGE]}, similar=[other]))
    assert isinstance(found, RateCard)
    assert found.metrics == ("image_output_count",)
    assert read(page(other)) == "a/b: its page names no price"


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ("", "its page names no price"),
        ('<script type="application/json">{bad}</script>', "its page names no price"),
        (page({"name": "b", "price": "from $0.01"}), "its page says only 'from $0.01', which is not a certain price"),
        (page({"name": "b", "price": "$0.02 per million tokens"}), "not a certain price"),
        (page({"name": "b", "price": "$1 per second"}, {"name": "b", "price": "$2 per second"}), "'$1 per"),
        (page({"name": "b", "price": "$1 per second", "billingConfig": {"current_tiers": []}}), "no current tiers"),
        (card_page({"prices": []}), "a tier of its rate card has no prices"),
        (card_page({"prices": [price("gpu_hours", "$1", "per hour")]}), "says $1 per hour of gpu_hours, which is not"),
        (card_page({"prices": [price("image_output_count", "from $0.01", "per output image")]}), "says from $0.01 per"),
        (card_page({"prices": [price("image_output_count", "€1", "per output image")]}), "not a certain price"),
        (card_page({"prices": [price("image_output_count", "$1", "per output token")]}), "not a certain price"),
        (card_page({"prices": [price("image_output_count", "$1", "per output image", type="fixed")]}), "not a certain"),
        (card_page({"prices": [price("image_output_count", "$1", "per output image", metric_count=9)]}), "not a"),
        (card_page({"prices": [IMAGE, IMAGE]}), "a tier counts one metric twice"),
        (card_page({"prices": [IMAGE]}, {"prices": [IMAGE]}), "two of its tiers have the same criteria"),
        (card_page({"criteria": [equals("camera motion", "pan")], "prices": [IMAGE]}), "asks for {"),
        (card_page({"criteria": [equals("model variant", "x", type="range")], "prices": [IMAGE]}), "asks for {"),
        (card_page({"prices": [IMAGE]}, {"criteria": [equals("model variant", 1)], "prices": [IMAGE]}), "different"),
        (page({"billingConfig": {"current_tiers": ["x"]}}), "a form that this version does not know"),
        (page({"billingConfig": 1}, {"billingConfig": 2}), "its page has 2 rate cards"),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_a_sentence(html: str, said: str) -> None:
    found = read(html)
    assert isinstance(found, str)
    assert found.startswith("a/b: ")
    assert said in found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["equals", "per-unit", "$1"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["billingConfig", "current_tiers", "criteria", "prices", "metric", "price", "title", "name"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
@settings(deadline=None)
def test_any_page_is_a_card_or_a_sentence(props: Any) -> None:
    assert isinstance(read(page({"billingConfig": props}, props)), RateCard | str)
