from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from jobs.prices.rate_card import Rate, RateCard, Tier
from jobs.prices.schema_defaults import with_schema

IMAGES = "image_output_count"
MEGAPIXELS = "image_input_megapixel_count"


def card(metric: str, **more: Any) -> RateCard:
    return RateCard("a/b", (Tier((Rate(metric, Decimal(1)),)),), **more)


@pytest.mark.parametrize(
    ("metric", "properties", "defaults", "at_most"),
    [
        ("image_output_count", {"prompt": {"type": "string"}}, {}, 1),
        ("image_output_count", {"num_outputs": {"type": "integer", "default": 1, "maximum": 4}}, {"num_outputs": 1}, 4),
        ("image_output_count", {"num_outputs": {"type": "integer"}}, {}, None),
        ("image_output_count", {"num_samples": {"type": "integer", "default": 1}}, {}, None),
        ("image_output_count", {"seed": {"type": "integer"}, "counted": {"type": "boolean"}}, {}, 1),
        ("video_output_duration_seconds", {"duration": {"allOf": [{}], "default": 8}}, {"duration": 8}, None),
        ("character_input_count", {"text": {"type": "string", "default": "x"}}, {"text": "x"}, None),
        ("token_output_count", {"max_tokens": None}, {}, None),
    ],
)
def test_a_schema_tells_defaults_and_bounds(
    metric: str, properties: dict[str, Any], defaults: dict[str, Any], at_most: int | None
) -> None:
    found = with_schema(card(metric), properties)
    assert found.defaults == defaults
    assert found.at_most == ({} if at_most is None else {metric: at_most})


def test_the_schemas_defaults_hold_over_the_cards_and_its_bounds_do_not() -> None:
    own = card(IMAGES, defaults={"num_outputs": 1, "size": "1K"}, at_most={IMAGES: Decimal(2)})
    found = with_schema(own, {"num_outputs": {"type": "integer", "default": 3, "maximum": 4}})
    assert (found.defaults, found.at_most) == ({"num_outputs": 3, "size": "1K"}, {IMAGES: Decimal(2)})
    assert found.cost_range({}).least == found.cost_range({}).most == 3_000_000


def test_a_variant_is_that_of_the_schema() -> None:
    """A row that leaves out `quality` costs what the model's own quality does."""
    tiers = tuple(Tier((Rate("run_count", Decimal(n)),), {"model_variant": f"q{n}"}) for n in (1, 2))
    bare = RateCard("a/b", tiers)
    assert (bare.cost_range({}).least, bare.cost_range({}).most) == (1_000_000, 2_000_000)
    found = with_schema(bare, {"quality": {"type": "string", "default": "q2"}})
    assert found.cost_range({}).least == found.cost_range({}).most == 2_000_000
    assert found.cost_range({"quality": "q1"}).most == 1_000_000


def test_a_file_that_the_model_takes_by_itself_counts() -> None:
    assert card(MEGAPIXELS).cost_range({}).most == 0
    found = with_schema(card(MEGAPIXELS), {"image": {"type": "string", "default": "https://a.example/b.png"}})
    assert found.cost_range({}).most is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", [1], None])
def test_a_default_that_no_file_can_have_is_left_out(value: Any) -> None:
    assert with_schema(card(IMAGES), {"num_outputs": {"default": value}}).defaults == {}
