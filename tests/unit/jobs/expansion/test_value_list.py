"""What `--each KEY=VALUES` may say, and what it must not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.expansion.value_list import read_values


def values(text: str) -> list[Any]:
    return [value for value, _ in read_values(text).values()]


def parts(text: str) -> list[str]:
    return [part for _, part in read_values(text).values()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed=1..4", [1, 2, 3, 4]),
        ("seed=-1..1", [-1, 0, 1]),
        ("seed=7..7", [7]),
        ("seed=1..2, 10,20..21", [1, 2, 10, 20, 21]),
        ("guidance=3,7.5, 1e3", [3, 7.5, 1000.0]),
        ("go=true,false,null", [True, False, None]),
        ("style=oil painting, ink", ["oil painting", "ink"]),
        ('style="oil, on canvas" , ink', ["oil, on canvas", "ink"]),
        ('style="",ink', ["", "ink"]),
        ('seed="1..4"', ["1..4"]),
        ("size=[1, 2],[3, 4]", [[1, 2], [3, 4]]),
        ('lora={"a": 1}', [{"a": 1}]),
        ("ratio=16:9,1:1", ["16:9", "1:1"]),
        ("x=a=b", ["a=b"]),
        ('x=5" wide', ['5" wide']),
        ("version=1.2.3,..,a..b", ["1.2.3", "..", "a..b"]),
        ("model=a/b,c/d", ["a/b", "c/d"]),
        ("x=NaN", ["NaN"]),
    ],
)
def test_values(text: str, expected: list[Any]) -> None:
    assert values(text) == expected
    assert read_values(text).count == len(expected)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("seed", "'seed' is not KEY=VALUES"),
        ("=1", "is not KEY=VALUES"),
        ("", "is not KEY=VALUES"),
        ("seed=", "seed has an empty value"),
        ("seed=1,,2", "seed has an empty value"),
        ("seed=1,", "seed has an empty value"),
        ("seed= ", 'for an empty text write ""'),
        ("seed=5..1", "'5..1' counts down; write 1..5"),
        ("g=1.5..3", "only whole numbers are counted"),
        ("g=1..2.5", "only whole numbers are counted"),
        ("seed=1...4", "only whole numbers are counted"),
        ("seed=1..9999999", "has 9,999,999 values; 1,000,000 is the most"),
        ("seed=1,1", "seed has 1 twice"),
        ("seed=1..4,3", "seed has 3 twice"),
        ("seed=3,1..4", "seed has 3 twice"),
        ("seed=1..4,4..6", "seed has 4 twice"),
        ("g=1e3,1000.0", "g has 1000.0 twice"),
        ("style=a b,a-b", '"a b" and "a-b" would give the same id'),
        ("style=Oil,oil", "would give the same id"),
        ('seed=1..4,"2"', "would give the same id"),
        ('style="oil, ink', "begins as JSON and is none"),
        ('style="a"b,c', "begins as JSON and is none"),
        ("size=[1,2", "begins as JSON and is none"),
        ("x=[NaN]", "begins as JSON and is none"),
        ("id=a,b", "'id' cannot be set by --each"),
        ("input=1", "'input' cannot be set"),
        ("model=flux", "'flux' is not a model"),
        ("model=1..2", "1 is not a model"),
    ],
)
def test_what_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("(", r"\(").replace("[", r"\[")):
        read_values(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed=1,-2", ["seed-1", "seed-minus2"]),
        ("g=3.5,3.0,-0.5,1e-07", ["g-3.5", "g-3.0", "g-minus0.5", "g-1e-07"]),
        ("style=oil painting", ["style-oil-painting"]),
        ("model=black-forest-labs/flux-1.1-pro", ["model-black-forest-labs-flux-1.1-pro"]),
        ("go=true", ["go-true"]),
        ("num_outputs=2", ["num_outputs-2"]),
        ("ratio=16:9", ["ratio-16-9"]),
        ("style=a--b", ["style-a-b-90827a"]),
        ("style=-x", ["style-x-a42096"]),
        ("style=日本", ["style-cf2abf"]),
        ('style=""', ["style-e3b0c4"]),
        ("größe=1", ["gr-e-d353a2-1"]),
    ],
)
def test_how_values_stand_in_ids(text: str, expected: list[str]) -> None:
    assert parts(text) == expected


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
SOME = TEXTS | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()


@settings(deadline=None)
@given(st.lists(SOME | st.lists(SOME, max_size=2), min_size=1, max_size=6))
def test_values_that_are_written_as_json_come_back_and_have_ids_of_their_own(wanted: list[Any]) -> None:
    try:
        found = read_values("key=" + ", ".join(map(json.dumps, wanted)))
    except ValueError as error:
        assert "twice" in str(error) or "would give the same id" in str(error)  # noqa: PT017
        return
    pairs = list(found.values())
    assert json.dumps([value for value, _ in pairs]) == json.dumps(wanted)
    assert len({part.lower() for _, part in pairs}) == len(wanted) == found.count
