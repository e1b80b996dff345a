from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jobs.dashboard.index.filters import Filter
from jobs.dashboard.index.indexes import Indexes
from jobs.dashboard.index.store import Store
from jobs.errors import StorageError
from jobs.events.event import Event
from jobs.events.log import record
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches

PNG = {"path": "cat/output.png", "url": "u", "bytes": 9, "sha256": "0"}


def rows(*ids: str) -> list[dict[str, Any]]:
    return [{"id": one, "input": {"prompt": f"a {one}", "seed": 7}} for one in ids]


def draw(path: Path, size: tuple[int, int] = (900, 600)) -> None:
    Image.effect_noise(size, 90).convert("RGB").save(path)


async def test_a_picture_is_there_soon_after_its_commit(night: Any, browser: Any) -> None:
    night.write_rows(*rows("cat", "dog"))
    await night.open(2)
    events = browser.events("/batches/night/events")
    items = [event async for event in _until(events, "items")][-1]
    assert items["keys"] == ["p0", "p1"]
    assert "no result yet" in items["html"]["p0"]
    draw(night.write_record(0, "cat", files=[PNG], saved_at="2026-01-01T00:00:00Z") / "output.png")
    await night.settle(0)
    changed = [event async for event in _until(events, "items")][-1]
    assert list(changed["html"]) == ["p0"], "what has not changed is not sent again"
    assert '/batches/night/thumbnails/cat/output.png?v=1767225600"' in changed["html"]["p0"]


async def _until(events: Any, name: str) -> Any:
    async for event in events:
        yield event
        if event["id"] == name:
            return


async def test_what_a_filter_shows(night: Any, browser: Any) -> None:
    night.write_rows(*rows("cat", "dog", "owl"))
    await night.open(3)
    await night.end(0, "cat")
    await night.end(1, "dog", "failed", error={"kind": "model_error", "message": "out of memory: 3 GiB"})
    whole = (await browser.get("/batches/night")).text
    assert all(f'id="p{n}"' in whole for n in range(3))
    failed = (await browser.get("/batches/night?state=failed")).text
    assert 'id="p1"' in failed
    assert 'id="p0"' not in failed
    assert "kind=model_error&amp;group=out+of+memory%3A+N+GiB" in whole
    assert 'id="p2"' in (await browser.get("/batches/night?text=ow")).text
    for number in ("99999999999", "9" * 5_000, "0", "-1", "٣"):
        assert (await browser.get(f"/batches/night?page={number}&order=x&rating=a")).status_code == 200


async def test_what_people_and_models_write_is_text(night: Any, browser: Any) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    night.write_rows({"id": "cat", "input": {"prompt": evil}}, {"id": "dog", "input": {"prompt": "d"}})
    await night.open(2)
    await night.end(0, "cat", output=evil)
    await night.end(1, "dog", "failed", error={"kind": "model_error", "message": evil})
    page = (await browser.get("/batches/night", params={"text": "", "kind": ""})).text
    assert html.escape(evil, quote=False).replace("&gt;&lt;", "&gt;&lt;") in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    searched = (await browser.get("/batches/night", params={"text": f'"{evil}', "group": evil, "model": evil})).text
    assert "<script>alert" not in searched


async def test_a_batch_that_takes_the_name_of_another_is_shown_as_it_is(night: Any, browser: Any) -> None:
    night.write_rows({"id": "cat", "input": {"prompt": "old"}})
    assert "old" in (await browser.get("/batches/night")).text
    night.folder.manifest.write_text(night.folder.manifest.read_text().replace(night.batch_id, "another"))
    night.write_rows({"id": "cat", "input": {"prompt": "new"}})
    page = (await browser.get("/batches/night")).text
    assert "new</p>" in page
    assert "old</p>" not in page


async def test_a_batch_that_redis_forgot_is_shown_from_its_folder(night: Any, browser: Any) -> None:
    night.write_rows(*rows("cat"))
    night.write_record(0, "cat")
    page = (await browser.get("/batches/night")).text
    assert "Redis does not know this batch any more" in page
    assert "succeeded 1" in page


@pytest.mark.parametrize("batch", ["noon", "%2e%2e", "night%2Fcat", ".dashboard"])
async def test_what_is_no_batch_is_not_found(night: Any, browser: Any, batch: str) -> None:
    night.write_rows(*rows("cat"))
    assert (await browser.get(f"/batches/{batch}")).status_code in (404, 405)


async def test_what_happened_and_the_settings_are_shown(night: Any, browser: Any, redis: Redis) -> None:
    night.write_rows(*rows("cat"))
    night.folder.models.write_text(json.dumps({"models": {}}))
    await night.open(1)
    await record(redis, "night", Event(event="limits", message="--max-cost 5 <b>"))
    await Batches(redis).set_budget("night", 7, None)
    page = (await browser.get("/batches/night")).text
    assert "--max-cost 5 &lt;b&gt;" in page
    assert "At most 7 predictions, any cost" in page


async def test_an_index_that_cannot_be_used_is_said_and_replaced(night: Any, indexes: Indexes) -> None:
    night.write_rows(*rows("cat"))
    night.write_record(0, "cat")
    done = Filter(state="succeeded")
    assert await indexes.ask("night", lambda store: store.positions(done)) == [0]
    (night.folder.prompt("cat") / "prediction.json").unlink()
    async with indexes.use("night") as opened:
        opened.store.close()
    with pytest.raises(StorageError, match="it may be deleted"):
        await indexes.ask("night", Store.models)
    assert await indexes.ask("night", Store.models) == [("a/b", 1, 0)]
    assert await indexes.ask("night", lambda store: store.positions(done)) == [], "it is another file"


async def test_a_damaged_file_of_models_is_said_on_the_page(night: Any, browser: Any) -> None:
    night.write_rows(*rows("cat"))
    night.folder.models.write_text("{")
    page = await browser.get("/batches/night")
    assert page.status_code == 200
    assert "models.json is not as it was written" in page.text
    assert 'id="p0"' in page.text
