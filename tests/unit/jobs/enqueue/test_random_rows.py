from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from jobs.enqueue.random_rows import RandomRows


def pick(ids: list[str], size: int, seed: int) -> list[str]:
    rows = RandomRows(size, seed)
    for place, prompt_id in enumerate(ids):
        rows.show(prompt_id, place)
    return [ids[place] for place in rows.places]


@given(st.lists(st.text(), unique=True, max_size=30), st.integers(1, 40), st.integers())
def test_so_many_are_picked_in_order_and_more_include_fewer(ids: list[str], size: int, seed: int) -> None:
    found = pick(ids, size, seed)
    assert len(found) == min(size, len(ids))
    assert found == sorted(found, key=ids.index)
    assert set(found) <= set(pick(ids, size + 1, seed))
    assert set(found) == set(pick(ids[::-1], size, seed)), "whatever their order is"


def test_each_row_is_as_likely() -> None:
    ids = [f"p{number}" for number in range(10)]
    counts = Counter(prompt_id for seed in range(1000) for prompt_id in pick(ids, 3, seed))
    assert all(230 < counts[prompt_id] < 370 for prompt_id in ids)
