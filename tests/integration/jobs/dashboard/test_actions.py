from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from jobs.account.account import Account
from jobs.config import Config
from jobs.dashboard.actions import question
from jobs.dashboard.index import filling as filling_module
from jobs.enqueue.order import Order
from jobs.operations.operations import Operations
from jobs.prices.setting import Prices
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches

ERROR = {"kind": "model_error", "message": "out of memory: 3 GiB"}


@pytest.fixture
def operations(config: Config, redis: Redis) -> Operations:
    return Operations(config, redis)


@pytest.fixture
async def failed(night_enqueued: Any) -> Any:
    """Batch `night`, whose first two prompts failed and whose last one waits."""
    for index, name in enumerate(("cat", "dog")):
        error = ERROR if name == "cat" else {"kind": "content_policy", "message": "nsfw"}
        await night_enqueued.end(index, name, "failed", error=error, model="owner/name")
    return night_enqueued


@pytest.fixture
async def night_enqueued(night: Any, operations: Operations, tmp_path: Any) -> Any:
    rows = [{"id": one, "input": {"prompt": one, "seed": 1}} for one in ("cat", "dog", "owl")]
    night.folder.manifest.unlink()
    night.folder.path.rmdir()
    file = tmp_path / "night.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    await operations.enqueue(Order(str(file), model="owner/name", model_check=False))
    night.batch_id = night.folder.batch_id()
    return night


@pytest.mark.usefixtures("failed")
async def test_a_retry_says_what_it_touches_and_touches_only_that(browser: Any, redis: Redis) -> None:
    query = "?kind=model_error"
    asked = (await browser.get(f"/batches/night/actions/retry{query}")).text
    assert "1 prompt would run again" in asked
    assert "1 of owner/name" in asked
    assert (await Batches(redis).get("night")).failed == 2, "asking does nothing"
    done = (await browser.press(f"/batches/night/actions/retry{query}", "/batches/night")).text
    assert "1 prompt enqueued" in done
    assert (await Batches(redis).get("night")).failed == 1
    log = (await browser.get("/")).text
    assert "1 prompt enqueued" in log
    assert "127.0.0.1" in log


@pytest.mark.usefixtures("failed")
async def test_many_prompts_need_a_word(browser: Any, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question, "MANY", 1)
    page, path = "/batches/night", "/batches/night/actions/retry"
    both = {"content_policy": "1"}
    assert 'name="word"' not in (await browser.get(path)).text, "one prompt is not many"
    refused = (await browser.press(path, page, word="noon", **both)).text
    assert "Type night to go on; nothing was done" in refused
    assert 'name="word"' in refused
    assert (await Batches(redis).get("night")).failed == 2
    assert "2 prompts enqueued" in (await browser.press(path, page, word=" night ", **both)).text


@pytest.mark.usefixtures("failed")
async def test_what_was_refused_for_its_content_is_retried_only_when_ticked(browser: Any, redis: Redis) -> None:
    path, page = "/batches/night/actions/retry", "/batches/night"
    asked = (await browser.get(path)).text
    assert "1 prompt would run again" in asked
    assert "also 1 prompt that failed for its content" in asked
    assert "checked" not in asked
    assert "1 prompt enqueued" in (await browser.press(path, page)).text
    assert (await Batches(redis).get("night")).failed == 1
    assert "Nothing else can be retried" in (await browser.get(path)).text
    assert "nothing new to enqueue" in (await browser.press(path, page)).text
    assert "1 prompt would run again" in (await browser.get(f"{path}?kind=content_policy")).text
    assert "1 prompt enqueued" in (await browser.press(path, page, content_policy="1")).text


@pytest.mark.usefixtures("failed")
async def test_what_a_retry_costs_is_said_as_far_as_it_is_known(serve_dashboard: Any) -> None:
    path = "/batches/night/actions/retry?kind=model_error"
    priced = await serve_dashboard(prices=Prices.parse("owner/name=0.25"))
    assert "It costs at least $0.25" in (await priced.get(path)).text
    unpriced = await serve_dashboard()
    assert "What it costs is not known" in (await unpriced.get(path)).text


@pytest.mark.usefixtures("night_enqueued")
async def test_a_cancel_is_the_cancel_of_the_command_line(browser: Any, redis: Redis) -> None:
    path = "/batches/night/actions/cancel"
    assert "3 prompts would never be created" in (await browser.get(path)).text
    assert "will be canceled" in (await browser.press(path, "/batches/night")).text
    assert (await Batches(redis).get("night")).cancel_requested


@pytest.mark.usefixtures("night_enqueued")
async def test_limits_change_only_where_something_else_was_filled_in(browser: Any, redis: Redis) -> None:
    path, page = "/batches/night/actions/limit", "/batches/night"
    assert 'name="max_in_flight" value="none"' in (await browser.get(path)).text
    values = {"max_predictions": "none", "max_cost": "", "max_in_flight": "7", "priority": "2"}
    assert "--max-in-flight 7 (was none)" in (await browser.press(path, page, **values)).text
    batch = await Batches(redis).get("night")
    assert (batch.max_in_flight, batch.max_predictions, batch.priority) == (7, None, 2.0)
    await browser.press(path, page, max_in_flight="none")
    assert (await Batches(redis).get("night")).max_in_flight is None


@pytest.mark.usefixtures("night_enqueued")
@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"max_in_flight": "many"}, "no number"),
        ({"max_in_flight": "0"}, "must be between"),
        ({"max_cost": "-1"}, "must be above 0"),
        ({"max_cost": "inf"}, "no number"),
        ({"priority": "nan"}, "must be between"),
        ({"priority": "x"}, "no number"),
    ],
)
async def test_a_wrong_limit_changes_nothing(browser: Any, redis: Redis, values: dict[str, str], problem: str) -> None:
    found = (await browser.press("/batches/night/actions/limit", "/batches/night", **values)).text
    assert "Nothing was done" in found
    assert problem in found
    batch = await Batches(redis).get("night")
    assert (batch.max_in_flight, batch.max_cost, batch.priority) == (None, None, 1.0)


async def test_everything_is_paused_and_resumed(browser: Any, redis: Redis, config: Config) -> None:
    assert "Nothing more is created" in (await browser.get("/actions/pause")).text
    await browser.press("/actions/pause", reason="lunch")
    assert await Account(redis, config.api_host).pause_reason() == "lunch"
    assert "Resumed." in (await browser.press("/actions/resume")).text
    assert await Account(redis, config.api_host).pause_reason() is None


async def test_what_was_done_is_said_even_when_it_cannot_be_logged(browser: Any, redis: Redis, config: Config) -> None:
    page = await browser.get("/")
    await redis.set(keys.actions(config.api_host), "no list")
    token = page.text.partition('"x-csrf-token": "')[2].partition('"')[0]
    found = await browser.post("/actions/pause", headers={"x-csrf-token": token})
    assert found.status_code == 200
    assert "The log of actions does not have it" in found.text
    assert await Account(redis, config.api_host).pause_reason() == "paused from the dashboard"


@pytest.mark.usefixtures("night_enqueued")
async def test_one_batch_is_paused_and_resumed(browser: Any, redis: Redis) -> None:
    page, pause, resume = "/batches/night", "/batches/night/actions/pause", "/batches/night/actions/resume"
    assert "3 prompts wait" in (await browser.get(pause)).text
    assert pause in (await browser.get(page)).text
    await browser.press(pause, page, reason="lunch")
    assert (await Batches(redis).get("night")).paused == "lunch"
    assert resume in (await browser.get(page)).text
    overview = (await browser.get("/")).text
    assert "Paused: lunch" in overview
    assert resume in overview
    assert "It is paused: lunch" in (await browser.get(resume)).text
    assert "night: resumed" in (await browser.press(resume, page)).text
    assert (await Batches(redis).get("night")).paused is None


@pytest.mark.parametrize(("seeds", "is_same"), [("the same seeds", True), ("new seeds", False)])
async def test_the_rejected_become_a_batch(failed: Any, browser: Any, *, seeds: str, is_same: bool) -> None:
    path, page = "/batches/night/actions/rerun", "/batches/night"
    assert "There are none" in (await browser.get(path)).text
    await browser.press(f"{page}/review", page, id="dog", rejected="1")
    assert "1 prompt become" in (await browser.get(path)).text.replace("becomes", "become")
    assert "night-again: 1 prompt enqueued" in (await browser.press(path, page, seeds=seeds)).text
    (row,) = map(json.loads, (failed.folder.output_dir / "night-again" / "prompts.jsonl").read_text().splitlines())
    assert (row["id"], row["model"], row["input"]["prompt"]) == ("dog", "owner/name", "dog")
    assert (row["input"]["seed"] == 1) is is_same
    assert 'value="night-again-2"' in (await browser.get(path)).text
    assert "already" in (await browser.press(path, page, name="night-again")).text


async def test_what_a_filter_shows_becomes_a_batch(failed: Any, browser: Any) -> None:
    path = "/batches/night/actions/rerun?kind=content_policy"
    await browser.press(path, "/batches/night", name="policy")
    assert (failed.folder.output_dir / "policy" / "prompts.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize("path", ["/actions/delete", "/batches/night/actions/x", "/batches/noon/actions/retry"])
async def test_what_is_no_action_is_not_found(night: Any, browser: Any, path: str) -> None:
    assert night
    assert (await browser.get(path)).status_code == 404
    assert (await browser.press(path)).status_code == 404


@pytest.mark.usefixtures("failed")
async def test_two_people_at_once_do_it_once(serve_dashboard: Any, redis: Redis) -> None:
    first, second = await serve_dashboard(), await serve_dashboard()
    path, page = "/batches/night/actions/retry", "/batches/night"
    both = {"content_policy": "1"}
    found = await asyncio.gather(first.press(path, page, **both), second.press(path, page, **both))
    assert sum("2 prompts enqueued" in one.text for one in found) == 1
    assert (await Batches(redis).get("night")).failed == 0
    late = (await second.press(path, page)).text
    assert "Nothing was done" in late
    assert "There is nothing to retry" in late


@pytest.mark.usefixtures("night_enqueued")
async def test_of_two_people_with_one_question_the_later_is_told(serve_dashboard: Any, redis: Redis) -> None:
    first, second = await serve_dashboard(), await serve_dashboard()
    path, page = "/batches/night/actions/limit", "/batches/night"
    seen = filled_in((await first.get(path)).text)
    assert seen["max_in_flight"] == "none"
    await first.press(path, page, **seen | {"max_in_flight": "20"})
    late = (await second.press(path, page, **seen | {"priority": "2"})).text
    assert "Somebody else has changed this meanwhile" in late
    batch = await Batches(redis).get("night")
    assert (batch.max_in_flight, batch.priority) == (20, 1.0), "the first one's change stays"
    assert filled_in(late)["max_in_flight"] == "20"
    await second.press(path, page, **filled_in(late) | {"priority": "2"})
    batch = await Batches(redis).get("night")
    assert (batch.max_in_flight, batch.priority) == (20, 2.0)


def filled_in(dialog: str) -> dict[str, str]:
    """What a browser sends of a dialog."""
    return dict(re.findall(r'<input (?:type="hidden" )?name="(\w+)" value="([^"]*)"', dialog))


@pytest.mark.usefixtures("failed")
async def test_an_action_on_an_index_that_is_not_whole_says_so(browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling_module, "BUDGET", 0.0)
    monkeypatch.setattr(filling_module, "CHUNK", 1)
    path = "/batches/night/actions/cancel?text=o"
    assert "still being read" in (await browser.get(path)).text
    monkeypatch.setattr(filling_module, "BUDGET", 60.0)
    assert "still being read" not in (await browser.get(path)).text


@pytest.mark.usefixtures("failed")
async def test_a_read_only_dashboard_acts_on_nothing(serve_dashboard: Any, redis: Redis) -> None:
    browser = await serve_dashboard(read_only=True)
    assert (await browser.press("/batches/night/actions/retry", "/batches/night")).status_code == 403
    assert "actions/retry" not in (await browser.get("/batches/night")).text
    assert (await Batches(redis).get("night")).failed == 2


@pytest.mark.usefixtures("night_enqueued")
async def test_what_a_filter_shows_is_canceled_alone(browser: Any, redis: Redis) -> None:
    path = "/batches/night/actions/cancel?text=cat"
    asked = (await browser.get(path)).text
    assert "Cancel, of the 1 prompt that the filter shows" in asked
    assert "1 prompt would never be created" in asked
    assert "1 prompt will be canceled" in (await browser.press(path, "/batches/night")).text
    assert not (await Batches(redis).get("night")).cancel_requested
