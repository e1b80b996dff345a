from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.dashboard.index.filters import MARKS, STATES, Filter

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
FILTERS = st.builds(
    Filter,
    text=TEXT.map(str.strip),
    state=st.sampled_from(("", *STATES)),
    kind=TEXT,
    group=TEXT,
    model=TEXT,
    matrix=TEXT,
    mark=st.sampled_from(("", *MARKS)),
    rating=st.integers(0, 5),
)


@given(FILTERS)
def test_an_address_has_the_whole_filter(chosen: Filter) -> None:
    assert Filter.read(dict(parse_qsl(chosen.query, keep_blank_values=True))) == chosen
    assert bool(chosen) == bool(chosen.query)


@pytest.mark.parametrize(
    "values", [{"state": "lost"}, {"mark": "x"}, {"rating": "9"}, {"rating": "-1"}, {"rating": "²"}]
)
def test_what_an_address_cannot_mean_is_left_out(values: dict[str, str]) -> None:
    assert not Filter.read(values)


def test_values_are_parameters_of_the_query() -> None:
    where, values = Filter(text="a' OR 1", kind="x'; DROP TABLE prompts").where()
    assert "DROP" not in where
    assert values == ["%a'%", "%OR%", "%1%", "x'; DROP TABLE prompts"]


def test_a_change_keeps_the_rest() -> None:
    assert Filter(text="cat", state="failed").but(state="") == "text=cat"
