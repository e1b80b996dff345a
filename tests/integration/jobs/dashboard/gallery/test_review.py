from __future__ import annotations

import json
from typing import Any

import pytest


def rows(*ids: str) -> list[dict[str, Any]]:
    return [{"id": one, "input": {"prompt": f"a {one}"}} for one in ids]


@pytest.fixture
async def page(night: Any) -> str:
    night.write_rows(*rows("cat", "dog"))
    await night.open(2)
    await night.end(0, "cat")
    return "/batches/night"


async def test_a_rating_is_kept_and_shown(night: Any, browser: Any, page: str) -> None:
    card = (await browser.press(f"{page}/review", page, id="cat", rating="4")).text
    assert card.startswith('<article id="p0"')
    assert card.count('aria-pressed="true"') == 1, "one rating is chosen"
    assert "4/5" in card
    (line,) = night.folder.reviews.read_text().splitlines()
    assert json.loads(line) | {"at": ""} == {
        "id": "cat", "rating": 4, "starred": False, "rejected": False, "reason": "", "at": "",
    }  # fmt: skip
    assert 'id="p0"' in (await browser.get(f"{page}?rating=4")).text
    assert 'id="p0"' not in (await browser.get(f"{page}?rating=5")).text


async def test_a_button_takes_back_what_it_did(browser: Any, page: str) -> None:
    for expected in ("true", "false"):
        card = (await browser.press(f"{page}/review", page, id="cat", starred="1")).text
        assert f'aria-pressed="{expected}" aria-label="Star"' in card


async def test_a_rejection_has_a_reason(browser: Any, page: str) -> None:
    await browser.press(f"{page}/review", page, id="cat", rejected="1")
    card = (await browser.press(f"{page}/review", page, id="cat", reason="<b>blurred</b>")).text
    assert 'value="&lt;b&gt;blurred&lt;/b&gt;"' in card
    assert 'id="p0"' in (await browser.get(f"{page}?mark=rejected")).text


@pytest.mark.parametrize(("values", "status"), [({"rating": "6"}, 400), ({}, 400), ({"rating": "1", "id": "owl"}, 404)])
async def test_what_is_no_review_is_refused(
    night: Any, browser: Any, page: str, values: dict[str, str], status: int
) -> None:
    assert (await browser.press(f"{page}/review", page, **{"id": "cat", **values})).status_code == status
    assert not night.folder.reviews.exists()


async def test_a_review_from_elsewhere_is_shown(night: Any, browser: Any, page: str) -> None:
    assert "value=" in (await browser.get(page)).text
    night.folder.reviews.write_text('{"id": "cat", "starred": true}\n')
    assert 'id="p0"' in (await browser.get(f"{page}?mark=starred")).text
