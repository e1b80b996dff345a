"""How many rows one becomes, and what their ids are."""

from __future__ import annotations

import tracemalloc
from itertools import islice, permutations
from math import prod
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.expansion.expansion import Expansion, Variant
from jobs.expansion.matrix import Matrix, build_matrix
from jobs.expansion.value_list import read_values
from jobs.expansion.variant_ids import variant_id
from jobs.names import is_prompt_id

ROW = Variant("harbour", "o/n", {"prompt": "a harbour", "seed": 9})


def matrix(*each: str, repeat: int | None = None, seed_from: int | None = None) -> Matrix:
    return build_matrix([read_values(text) for text in each], repeat, seed_from)


def expand(*each: str, row: Variant = ROW, **more: Any) -> list[Variant]:
    return list(Expansion(matrix(*each, **more)).variants(row, {}))


def ids(*each: str, **more: Any) -> list[str]:
    return [variant.id for variant in expand(*each, **more)]


def test_the_last_option_varies_fastest_and_the_matrix_wins_over_the_row() -> None:
    found = expand("seed=1..2", "guidance=3,7")
    assert [variant.id for variant in found] == [
        "harbour--seed-1--guidance-3",
        "harbour--seed-1--guidance-7",
        "harbour--seed-2--guidance-3",
        "harbour--seed-2--guidance-7",
    ]
    assert found[2].input == {"prompt": "a harbour", "seed": 2, "guidance": 3}
    assert ROW.input["seed"] == 9
    assert {variant.model for variant in found} == {"o/n"}


def test_a_model_is_no_input() -> None:
    found = expand("model=a/b,c/d", row=Variant("x", None, {"model": "an input of that name"}))
    assert [variant.model for variant in found] == ["a/b", "c/d"]
    assert found[0] == Variant("x--model-a-b", "a/b", {"model": "an input of that name"})


def test_repeats() -> None:
    assert ids(repeat=3) == ["harbour--repeat-1", "harbour--repeat-2", "harbour--repeat-3"]
    assert [variant.input for variant in expand(repeat=2)] == [ROW.input] * 2
    assert expand(repeat=4, seed_from=100) == expand("seed=100..103")
    assert ids("style=ink", repeat=1) == ["harbour--style-ink--repeat-1"]
    assert len(set(ids("repeat=1..2", repeat=2))) == 4, "a model may have an input of that name"


@pytest.mark.parametrize(
    ("each", "more", "reason"),
    [
        (["seed=1", "seed=2"], {}, "seed is given twice"),
        (["seed=1"], {"repeat": 2, "seed_from": 1}, "--seed-from sets it, too"),
        ([], {"seed_from": 1}, "--seed-from needs --repeat"),
        (["seed=1..1000", "steps=1..1001"], {}, "more than 1,000,000 rows"),
    ],
)
def test_what_does_not_go_together(each: list[str], more: dict[str, int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        matrix(*each, **more)


KEYS = st.lists(st.text(min_size=1, max_size=70).filter(lambda key: "=" not in key), unique=True, max_size=4)
BASES = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", fullmatch=True).filter(is_prompt_id)


@settings(deadline=None)
@given(st.data(), KEYS, BASES, st.none() | st.integers(1, 3))
def test_ids_are_valid_distinct_and_the_same_in_any_order(
    data: st.DataObject, keys: list[str], base: str, repeat: int | None
) -> None:
    words = st.lists(st.from_regex(r"[a-z0-9 é/-]{1,60}", fullmatch=True).map(str.strip), min_size=1, max_size=3)
    each = [
        (key, data.draw(words.filter(lambda some: all(some) and len({*some}) == len(some))))
        for key in keys
        if key not in ("id", "custom_id", "input", "model")
    ]
    try:
        lists = [read_values(f"{key}={','.join(some)}") for key, some in each]
    except ValueError as error:
        assert "the same id" in str(error) or "twice" in str(error)  # noqa: PT017
        return
    wanted = prod(one.count for one in lists) * (repeat or 1)
    row = Variant(base, None, {})
    found = None
    for order in permutations(lists):
        variants = list(Expansion(build_matrix(order, repeat, None)).variants(row, {}))
        assert len(variants) == wanted
        seen = {variant.id.lower(): repr(sorted(variant.input.items())) for variant in variants}
        assert len(seen) == wanted
        assert all(is_prompt_id(variant.id) for variant in variants)
        assert found in (None, seen)
        found = seen


def test_what_is_too_long_ends_with_a_hash() -> None:
    long = variant_id("x" * 128, ["seed-1"])
    assert len(long) == 128
    assert long.startswith("x" * 100)
    assert long != variant_id("x" * 128, ["seed-2"])
    assert variant_id("x" * 120, ["seed-1"]) == "x" * 120 + "--seed-1"


def test_a_million_rows_are_made_one_at_a_time() -> None:
    variants = Expansion(matrix("seed=1..1000000")).variants(ROW, {})
    tracemalloc.start()
    try:
        assert sum(1 for _ in islice(variants, 20_000)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert matrix("steps=1..2", "seed=1..500000").count == 1_000_000
