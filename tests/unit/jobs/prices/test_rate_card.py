from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.prices.cost_range import CostRange
from jobs.prices.criteria import CRITERIA
from jobs.prices.metrics import METRICS
from jobs.prices.rate_card import Rate, RateCard, Tier
from jobs.prices.schema_defaults import with_schema

VIDEO, IMAGES = "video_output_duration_seconds", "image_output_count"


def card(*rates: tuple[str, str, int], **more: Any) -> RateCard:
    return RateCard("a/b", (Tier(tuple(Rate(name, Decimal(amount), per) for name, amount, per in rates)),), **more)


def tiers(*rows: tuple[dict[str, Any], str, str], **more: Any) -> RateCard:
    found = tuple(Tier((Rate(metric, Decimal(amount)),), criteria) for criteria, metric, amount in rows)
    return RateCard("a/b", found, **more)


FLUX = card((IMAGES, "3", 1000))
STACKED = card(
    ("run_count", "0.015", 1),
    ("image_input_megapixel_count", "0.015", 1),
    ("image_output_megapixel_count", "0.015", 1),
)
TOKENS = card(("token_input_count", "3", 10**6), ("token_output_count", "15", 10**6))
VEO = tiers(({"model_variant": "with_audio"}, VIDEO, "0.40"), ({"model_variant": "without_audio"}, VIDEO, "0.20"))
GPT = tiers(*(({"model_variant": name}, IMAGES, f"0.{n}") for name, n in (("low", "013"), ("high", "136"))))
HAILUO = tiers(
    *(
        ({"resolution_target": size, VIDEO: Decimal(seconds)}, "video_output_count", amount)
        for size, seconds, amount in (("768p", 6, "0.19"), ("768p", 10, "0.32"), ("1080p", 6, "0.33"))
    ),
    at_most={"video_output_count": Decimal(1)},
)
SPEECH = card(("character_input_count", "0.10", 1000))
HARDWARE = card(("predict_time", "0.001525", 1), at_most={"predict_time": Decimal(60)})


@pytest.mark.parametrize(
    ("rates", "values", "least", "most"),
    [
        (FLUX, {}, 3000, None),
        (FLUX, {"num_outputs": 4}, 12_000, 12_000),
        (FLUX, {"num_outputs": "many"}, 3000, None),
        (FLUX, {"num_outputs": None}, 3000, None),
        (FLUX, {"num_outputs": True}, 3000, None),
        (FLUX, {"num_outputs": 2, "num_images": 3}, 3000, None),
        (FLUX, {"max_images": 4}, 3000, 12_000),
        (card((IMAGES, "3", 1000), defaults={"num_outputs": 2}), {}, 6000, 6000),
        (card((IMAGES, "3", 1000), at_most={IMAGES: Decimal(1)}), {}, 3000, 3000),
        (card((IMAGES, "3", 1000), at_most={IMAGES: Decimal(1)}), {"num_outputs": 4}, 12_000, 12_000),
        (card((IMAGES, "3", 1000), inputs={IMAGES: "pictures"}), {"pictures": 3, "n": 9}, 9000, 9000),
        (STACKED, {"width": 1024, "height": 1024}, 30_000, 45_000),
        (STACKED, {"resolution": "2 MP"}, 45_000, 45_000),
        (STACKED, {"megapixels": "0.25", "resolution": "0.5 MP"}, 22_500, 30_000),
        (STACKED, {"resolution": "match_input_image"}, 15_000, None),
        (STACKED, {"width": 1000, "height": 1000, "image": "https://a.example/b.png"}, 15_000, None),
        (TOKENS, {"max_tokens": 1000}, 0, None),
        (card(("token_output_count", "15", 10**6)), {"max_tokens": 1000}, 0, 15_000),
        (VEO, {"duration": 8, "generate_audio": True}, 3_200_000, 3_200_000),
        (VEO, {"duration": "8s", "generate_audio": False}, 1_600_000, 1_600_000),
        (VEO, {"duration": 8}, 1_600_000, 3_200_000),
        (VEO, {"duration": 8, "generate_audio": "yes"}, 1_600_000, 3_200_000),
        (VEO, {"duration": -1}, 0, None),
        (VEO, {"duration": 8, "num_outputs": 2}, 1_600_000, 6_400_000),
        (GPT, {"quality": "low", "n": 1}, 13_000, 13_000),
        (GPT, {"quality": "auto", "n": 1}, 13_000, 136_000),
        (GPT, {"quality": "low", "variant": "high", "n": 1}, 13_000, 136_000),
        (HAILUO, {"resolution": "768P", "duration": 10}, 320_000, 320_000),
        (HAILUO, {"resolution": "768P"}, 190_000, 320_000),
        (HAILUO, {}, 190_000, 330_000),
        (HAILUO, {"resolution": "1080p", "duration": 10}, 0, None),
        (SPEECH, {"text": "x" * 500}, 50_000, 50_000),
        (SPEECH, {"text": " x ", "voice": "y"}, 100, 400),
        (SPEECH, {"text": "x", "prompt": "y"}, 0, 200),
        (SPEECH, {"prompt": "🙂"}, 100, 200),
        (HARDWARE, {}, 0, 91_500),
        (card(("unspecified_billing_metric", "0.08", 1)), {}, 0, None),
    ],
)  # fmt: skip
def test_what_an_input_will_cost(rates: RateCard, values: dict[str, Any], least: int, most: int | None) -> None:
    for _ in range(2):
        found = rates.cost_range(values)
        assert (found.least, found.most) == (least, most)
        assert bool(found.unknown) == (most is None)


@pytest.mark.parametrize(
    ("rates", "status", "metrics", "cost"),
    [
        (FLUX, "succeeded", {IMAGES: 4}, 12_000),
        (FLUX, "succeeded", {}, None),
        (FLUX, "succeeded", {IMAGES: "4"}, None),
        (FLUX, "succeeded", {IMAGES: float("nan")}, None),
        (FLUX, "failed", {"predict_time": 3.0}, 0),
        (FLUX, "canceled", {IMAGES: 1, "predict_time": 3.0}, 3000),
        (FLUX, "aborted", {IMAGES: 1}, 0),
        (FLUX, "processing", {IMAGES: 1}, None),
        (STACKED, "succeeded", {"image_input_megapixel_count": 1.2, "image_output_megapixel_count": 1}, 60_000),
        (STACKED, "failed", {"predict_time": 0.5}, 15_000),
        (STACKED, "canceled", {"predict_time": 0.0}, 0),
        (STACKED, "canceled", {}, 15_000),
        (TOKENS, "succeeded", {"token_input_count": 8, "token_output_count": 43}, 669),
        (TOKENS, "succeeded", {"token_input_count": 1, "token_output_count": 0}, 3),
        (VEO, "succeeded", {VIDEO: 8.0, "model_variant": "without_audio"}, 1_600_000),
        (VEO, "succeeded", {VIDEO: 8.0, "with_audio": False}, 1_600_000),
        (VEO, "succeeded", {VIDEO: 8.0, "with_audio": True}, 3_200_000),
        (VEO, "succeeded", {VIDEO: 8.0}, 3_200_000),
        (VEO, "succeeded", {VIDEO: 8.0, "model_variant": "in colour"}, None),
        (HAILUO, "succeeded", {"resolution_target": "768P", VIDEO: 6, "video_output_count": 1}, 190_000),
        (HAILUO, "succeeded", {"resolution_target": "768P", VIDEO: 6.04, "video_output_count": 1}, 320_000),
        (HARDWARE, "failed", {"predict_time": 2.3}, 3508),
        (HARDWARE, "failed", {}, None),
        (HARDWARE, "succeeded", {"predict_time": 100}, 152_500),
    ],
)  # fmt: skip
def test_what_a_prediction_has_cost(rates: RateCard, status: str, metrics: dict[str, Any], cost: int | None) -> None:
    assert rates.bill(status, metrics, {}) == cost


def test_the_input_decides_where_metrics_do_not_tell() -> None:
    metrics = {VIDEO: 6.04, "video_output_count": 1}
    assert HAILUO.bill("succeeded", metrics, {"resolution": "768p", "duration": 6}) == 190_000
    assert GPT.bill("succeeded", {IMAGES: 1}, {"quality": "LOW"}) == 13_000


def test_what_is_not_known_is_said() -> None:
    assert FLUX.cost_range({}).unknown == ("the number of output images (image_output_count)",)
    assert VEO.cost_range({}).unknown == (f"the number of seconds of output video ({VIDEO})",)
    assert HAILUO.cost_range({"resolution": "1080p", "duration": 10}).unknown == ("which of its prices holds",)


def test_a_card_is_said_in_words() -> None:
    assert str(FLUX) == "$3 per 1,000 output images"
    assert str(VEO) == (
        "model variant with_audio: $0.40 per second of output video; "
        "model variant without_audio: $0.20 per second of output video"
    )
    assert str(STACKED).startswith("$0.015 per run + $0.015 per input image megapixel + ")


def test_a_card_knows_whether_the_input_matters() -> None:
    assert not FLUX.is_flat
    assert card(("run_count", "0.01", 1)).is_flat
    assert card(("run_count", "0.01", 1)).cost_range({"x": 1}) == CostRange(10_000, 10_000)


AMOUNTS = st.decimals(0, 100, places=6)
VALUES: dict[str, list[Any]] = {
    "model_variant": ["low", "medium", "high"],
    "resolution_target": ["720p", "1080p"],
    "motion_mode": ["normal", "smooth"],
    "with_audio": [True, False],
}


@st.composite
def cards(draw: st.DrawFn) -> RateCard:
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), unique=True, max_size=2))
    metrics = draw(st.lists(st.sampled_from(sorted(METRICS)), unique=True, min_size=1, max_size=3))
    found = []
    for values in product(*(VALUES[name] for name in names)):
        rates = tuple(Rate(metric, draw(AMOUNTS), draw(st.sampled_from([1, 1000, 10**6]))) for metric in metrics)
        found.append(Tier(rates, dict(zip(names, values, strict=True))))
    return RateCard(
        "a/b", tuple(found), at_most={name: Decimal(100) for name in METRICS} if draw(st.booleans()) else {}
    )


@st.composite
def runs(draw: st.DrawFn, rates: RateCard, *, counted: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """An input, and the metrics of a model that does what the input asks for, as loose as bodies are."""
    outputs, seconds = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    width, height = draw(st.integers(64, 4096)), draw(st.integers(64, 4096))
    text, tokens = draw(st.text(max_size=40)), draw(st.integers(0, 90))
    pixels = width * height
    size = draw(st.sampled_from([pixels // 2**20, math.ceil(pixels / 10**6), pixels / 10**6]))
    values: dict[str, Any] = {"prompt": text, "duration": draw(st.sampled_from([seconds, f"{seconds}", f"{seconds}s"]))}
    values |= {"num_outputs": outputs, "width": width, "height": height, "max_tokens": tokens + draw(st.integers(0, 9))}
    values["image"] = draw(st.sampled_from([None, "https://a.example/b.png"]))
    for name in draw(st.sets(st.sampled_from(sorted(values.keys() - {"prompt", "image"})))):
        del values[name]
    if not counted:
        values.pop("num_outputs", None)
    of_each = outputs if "num_outputs" in values else 1  # a film is one film, unless more are asked for
    metrics: dict[str, Any] = {
        "predict_time": draw(st.floats(0, 100)), "unspecified_billing_metric": draw(st.floats(0, 100)),
        "image_output_count": outputs, "video_output_count": outputs, "audio_output_count": outputs,
        "video_output_duration_seconds": seconds * of_each, "audio_output_duration_seconds": seconds,
        "token_input_count": draw(st.integers(0, 100)), "token_output_count": tokens,
        "character_input_count": draw(st.sampled_from([len(text), len(text.strip())])),
        "character_output_count": draw(st.integers(0, 100)),
        "image_input_megapixels": draw(st.floats(0, 100)) if values["image"] else 0,
        "image_output_megapixels": size * of_each,
    }  # fmt: skip
    metrics["image_input_megapixel_count"] = metrics["image_input_megapixels"]
    metrics["image_output_megapixel_count"] = metrics["image_output_megapixels"]
    for name in {name for tier in rates.tiers for name in tier.criteria}:
        value = draw(st.sampled_from(VALUES[name]))
        if draw(st.booleans()):
            values[CRITERIA[name].keys[0]] = value.upper() if isinstance(value, str) and draw(st.booleans()) else value
        if draw(st.booleans()):
            metrics[name] = value
    return values, metrics


@given(st.data())
def test_a_bill_is_never_outside_its_estimate(data: st.DataObject) -> None:
    rates = data.draw(cards())
    values, metrics = data.draw(runs(rates))
    expected, bill = rates.cost_range(values), rates.bill("succeeded", metrics, values)
    assert bill is not None
    assert expected.least <= bill
    assert expected.most is None or bill <= expected.most


@given(st.data())
def test_nor_is_that_of_a_row_which_leaves_inputs_to_the_schema(data: st.DataObject) -> None:
    """The model takes the schema's defaults, and the estimate does, too; of some inputs it has none."""
    rates = replace(data.draw(cards()), at_most={})
    values, metrics = data.draw(runs(rates, counted=data.draw(st.booleans())))
    row = {name: value for name, value in values.items() if data.draw(st.booleans())}
    properties: dict[str, Any] = {"num_outputs": {"type": "integer", "maximum": 9}}
    found = with_schema(rates, properties | {name: {"default": value} for name, value in values.items()})
    expected, bill = found.cost_range(row), found.bill("succeeded", metrics, row)
    assert bill is not None
    assert expected.least <= bill
    assert expected.most is None or bill <= expected.most


@given(st.data())
def test_what_did_not_succeed_never_costs_more(data: st.DataObject) -> None:
    rates = data.draw(cards())
    values, metrics = data.draw(runs(rates))
    whole = rates.bill("succeeded", metrics, values)
    some = {name: value for name, value in metrics.items() if name in CRITERIA or data.draw(st.booleans())}
    some["predict_time"] = metrics["predict_time"]
    part = rates.bill(data.draw(st.sampled_from(["failed", "canceled", "aborted"])), some, values)
    assert whole is not None
    assert part is not None
    assert 0 <= part <= whole


@given(AMOUNTS, st.integers(0, 10**9), st.sampled_from([1, 1000, 10**6]))
def test_a_bill_is_exact_and_rounded_up_once(amount: Decimal, units: int, per: int) -> None:
    exact = Fraction(amount) * units * 10**6 / per
    bill = card(("token_output_count", str(amount), per)).bill("succeeded", {"token_output_count": units}, {})
    assert bill == math.ceil(exact)
