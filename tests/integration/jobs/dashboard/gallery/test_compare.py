from __future__ import annotations

from typing import Any

import pytest

from jobs.dashboard.gallery.compare import differences


def test_what_differs_comes_first() -> None:
    rows = differences([{"prompt": "a", "seed": 1, "size": None}, {"prompt": "a", "seed": 2, "extra": ""}])
    assert [(row.key, row.values, row.differs) for row in rows] == [
        ("seed", ("1", "2"), True),
        ("size", ("null", ""), True),
        ("extra", ("", ""), True),
        ("prompt", ("a", "a"), False),
    ]


async def test_prompts_stand_side_by_side(night: Any, browser: Any) -> None:
    night.write_rows({"id": "cat", "input": {"prompt": "a <b>cat"}}, {"id": "dog", "input": {"prompt": "a dog"}})
    night.write_record(0, "cat")
    page = (await browser.get("/batches/night/compare?id=dog&id=cat")).text
    assert page.index('id="p1"') < page.index('id="p0"')
    assert '<tr class="differs"><th scope="row">prompt' in page
    assert "a &lt;b&gt;cat" in page


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 400), ("id=cat", 400), ("id=cat&id=cat", 400), ("id=cat&id=owl", 404), ("id=1&id=2&id=3&id=4&id=5", 400)],
)
async def test_what_cannot_be_compared_is_refused(night: Any, browser: Any, query: str, status: int) -> None:
    night.write_rows({"id": "cat", "input": {"prompt": "a cat"}})
    assert (await browser.get(f"/batches/night/compare?{query}")).status_code == status


async def test_variants_of_a_row_stand_below_a_heading(night: Any, browser: Any) -> None:
    night.write_rows(*({"id": one, "input": {"prompt": one}} for one in ("cat--1", "cat--2", "dog")))
    page = (await browser.get("/batches/night")).text
    assert page.count('class="matrix"') == 1
    assert 'href="/batches/night?matrix=cat"' in page
    assert 'class="matrix"' not in (await browser.get("/batches/night?order=newest")).text
