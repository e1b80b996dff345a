from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from jobs.errors import Blocked, InvalidRequest, NotFound, Unanswered
from jobs.redis_client import keys
from jobs.replicate_api.predictions import CREATE_TIMEOUT
from jobs.secret_inputs import Secrets
from jobs.state.ledger import Entry, Ledger, Overtaken
from jobs.wire import Batch, Prompt
from tests.integration.worker.prompt.works import CAT, INPUT, work_on
from worker.context import Context, Work
from worker.prompt import create as creation
from worker.prompt.admission import permit
from worker.prompt.create import Created, Refused, cancel_prediction, search
from worker.timing import Timing

TWIN = Prompt(1, "twin", "simulator/image", INPUT)

hasty = pytest.mark.parametrize("timing", [Timing(jitter=lambda: 0.1, sure_after=1.0 - CREATE_TIMEOUT)], ids=["hasty"])
"""What cannot be found is given up after a second, not a minute."""

brisk = pytest.mark.parametrize("timing", [Timing(jitter=lambda: 0.005, once_more_after=0.02)], ids=["brisk"])
"""What is refused is repeated at once."""


@pytest.fixture
async def worker(
    simulator: Any, open_worker: Callable[..., Awaitable[Context]], open_batch: Callable[..., Awaitable[Batch]]
) -> Context:
    simulator.settings(limiter="off", predict_min=0.05, predict_max=0.1)
    worker = await open_worker()
    await open_batch(worker, total=2)
    return worker


class NotCreated(Exception):
    def __init__(self, refused: Refused) -> None:
        self.entry, self.error = refused
        super().__init__(str(refused.error))


async def create(work: Work, entry: Entry) -> Created:
    async with permit(work, entry) as granted:
        outcome = await creation.create(work, granted)
    if isinstance(outcome, Refused):
        raise NotCreated(outcome)
    assert isinstance(outcome, Created)
    return outcome


async def test_a_create_is_recorded_and_claimed(worker: Context, simulator: Any) -> None:
    entry, prediction = await create(work_on(worker), Entry())
    assert prediction
    assert entry.prediction_id == prediction.id
    assert await worker.redis.get(keys.claim(worker.config.api_host, prediction.id)) == b"night:0"
    assert simulator.ledger()["created"] == 1


@pytest.mark.parametrize("how", ["reset", "502"])
async def test_a_lost_answer_is_found_and_not_paid_again(worker: Context, simulator: Any, how: str) -> None:
    simulator.control(lost_answer={"next": 1, "how": how})
    entry, _ = await create(work_on(worker), Entry())
    (made,) = simulator.ledger()["creates"]
    assert (entry.prediction_id, entry.attempt, entry.unknown_creates) == (made["id"], 1, 0)


async def test_a_lost_answer_is_found_in_a_list_that_lags(worker: Context, simulator: Any) -> None:
    simulator.control(lost_answer={"next": 1, "how": "reset"}, list_lag={"rate": 1.0, "seconds": 2})
    entry, _ = await create(work_on(worker), Entry())
    assert [entry.prediction_id] == [made["id"] for made in simulator.ledger()["creates"]]


@hasty
async def test_an_answer_that_quotes_a_secret_reveals_it_nowhere(
    raw_server: Any,
    open_worker: Callable[..., Awaitable[Context]],
    open_batch: Callable[..., Awaitable[Batch]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nor is its Retry-After lost: everybody waits."""
    secret = "sk-live-0123456789"

    async def quote(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0))
        answer = b"503 X\r\nRetry-After: 1", b'{"detail": "cannot use %b"}' % secret.encode()
        status, body = answer if head.startswith(b"post") else (b"200 OK", b'{"results": []}')
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()
        writer.close()

    worker = await open_worker(replicate_base_url=f"http://{await raw_server(quote)}")
    await open_batch(worker, total=1)
    worker = replace(worker, secrets=Secrets({"PROVIDER_KEY": secret}))
    caplog.set_level("DEBUG")
    row = Prompt(0, "cat", "simulator/everything", {"prompt": "cat", "key": {"$env": "PROVIDER_KEY"}})
    with pytest.raises(NotCreated):
        await create(work_on(worker, row), Entry())
    notice = await worker.redis.get(keys.notice(worker.config.api_host))
    assert "cannot use $PROVIDER_KEY" in f"{notice}"
    assert "cannot use $PROVIDER_KEY" in caplog.text
    assert "create: held back for 1." in caplog.text
    assert secret not in f"{notice} {caplog.text}"


@hasty
async def test_what_was_never_created_is_replaced_and_counted(worker: Context, simulator: Any) -> None:
    simulator.control(error={"next": 1, "kinds": ["create"], "status": 500})
    entry, _ = await create(work_on(worker), Entry())
    assert (entry.attempt, entry.unknown_creates) == (1, 1)
    assert simulator.ledger()["created"] == 1
    assert (await worker.batches.get("night")).unknown_creates == 1


@hasty
async def test_after_three_replacements_it_is_given_up(worker: Context, simulator: Any) -> None:
    simulator.control(error={"rate": 1.0, "kinds": ["create"], "status": 502})
    with pytest.raises(NotCreated, match="4 creates") as refused:
        await create(work_on(worker), Entry())
    assert isinstance(refused.value.error, Unanswered)
    assert (await work_on(worker).ledger.read()).unknown_creates == 3
    assert simulator.ledger()["calls"]["create"] == 4


@hasty
async def test_nothing_is_given_up_while_the_list_cannot_be_read(worker: Context, simulator: Any) -> None:
    simulator.control(lost_answer={"next": 1, "how": "reset"}, error={"next": 3, "kinds": ["list"]})
    entry, _ = await create(work_on(worker), Entry())
    assert [entry.prediction_id] == [made["id"] for made in simulator.ledger()["creates"]]


@pytest.mark.parametrize("timing", [Timing(searchable=-1.0)])
async def test_an_intent_too_old_to_be_found_is_given_up_at_once(worker: Context, simulator: Any) -> None:
    intent = await work_on(worker).ledger.intend(Entry())
    assert await search(work_on(worker), intent) == intent
    assert "list" not in simulator.ledger()["calls"]


async def test_equal_prompts_never_share_a_prediction(worker: Context, simulator: Any) -> None:
    simulator.control(lost_answer={"next": 2, "how": "reset"})
    entries = await asyncio.gather(*(create(work_on(worker, prompt), Entry()) for prompt in (CAT, TWIN)))
    assert {entry.prediction_id for entry, _ in entries} == {made["id"] for made in simulator.ledger()["creates"]}


@hasty
async def test_a_prediction_that_an_equal_prompt_took_is_made_up_for(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    """CAT's answer comes after TWIN's search has found and claimed CAT's prediction."""
    simulator.control(late_answer={"next": 1, "seconds": 1.5})
    creating = asyncio.create_task(create(work_on(worker), Entry()))
    (made,) = await eventually(lambda: simulator.ledger()["creates"])
    twin = work_on(worker, TWIN)
    await twin.ledger.record(await twin.ledger.intend(Entry()), made["id"])
    entry, _ = await creating
    assert entry.prediction_id != made["id"]
    assert simulator.ledger()["created"] == 2


async def begin_late_create(worker: Context, simulator: Any, eventually: Callable[..., Any]) -> asyncio.Task[Created]:
    """A create of CAT that is under way, and whose answer comes a while later."""
    simulator.control(delay={"next": 1, "kinds": ["create"], "seconds": 1.5})
    slow_cat = replace(CAT, input={**INPUT, "predict_time": 60})
    creating = asyncio.create_task(create(work_on(worker, slow_cat), Entry()))
    await eventually(lambda: simulator.ledger()["faults"].get("delay"))
    return creating


async def test_an_answer_that_comes_too_late_is_an_orphan_and_canceled(
    worker: Context, simulator: Any, eventually: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    creating = await begin_late_create(worker, simulator, eventually)
    await work_on(worker).ledger.intend(await work_on(worker).ledger.read(), replace=True)
    with caplog.at_level(logging.WARNING), pytest.raises(Overtaken):
        await creating
    (made,) = simulator.ledger()["creates"]
    assert made["status"] == "canceled"
    assert f"prediction {made['id']} came too late" in caplog.text
    assert await worker.claims.unclaimed([made["id"]]) == []


async def test_a_late_answer_that_was_adopted_is_left_alone(worker: Context, simulator: Any) -> None:
    made = await worker.replicate.create(CAT.model, {**INPUT, "predict_time": 60})
    twin = work_on(worker, TWIN)
    await twin.ledger.record(await twin.ledger.intend(Entry()), made.id)
    await creation.cancel_orphan(work_on(worker), made.id)
    assert simulator.ledger()["creates"][0]["status"] != "canceled"


async def test_a_search_sees_that_the_answer_has_come_to_another_worker(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    """To one that stalled with the answer in its socket, and goes on: its claim is the prompt's own."""
    simulator.control(list_lag={"rate": 1.0, "seconds": 600})
    intent = await work_on(worker).ledger.intend(Entry())
    made = await worker.replicate.create(CAT.model, INPUT)
    searching = asyncio.create_task(search(work_on(worker), intent))
    await eventually(lambda: simulator.ledger()["calls"].get("list", 0) >= 2)
    assert not searching.done(), "the first look did not end it"
    recorded = await work_on(worker).ledger.record(intent, made.id)
    assert await searching == recorded
    with pytest.raises(Overtaken):
        await search(work_on(worker), replace(intent, nonce="another"))


@hasty
@pytest.mark.parametrize("taken", [False, True])
async def test_a_prediction_beside_an_adopted_one_waits_for_an_equal_prompt(
    worker: Context, simulator: Any, eventually: Callable[..., Any], *, taken: bool
) -> None:
    """Another worker's search gave the prompt its twin's prediction, so the twin may need this one."""
    creating = await begin_late_create(worker, simulator, eventually)
    twins = await worker.replicate.create(CAT.model, {**INPUT, "predict_time": 60})
    await work_on(worker).ledger.record(await work_on(worker).ledger.read(), twins.id)
    with pytest.raises(Overtaken):
        await creating
    (made,) = [made for made in simulator.ledger()["creates"] if made["id"] != twins.id]
    assert await worker.claims.unclaimed([made["id"]]) == [made["id"]]
    if taken:
        twin = work_on(worker, TWIN).ledger
        await twin.record(await twin.intend(Entry()), made["id"])
    await eventually(lambda: not worker.creates)
    assert ((await worker.replicate.get(made["id"])).status == "canceled") is not taken


@brisk
async def test_a_cancel_is_repeated_until_it_is_answered(worker: Context, simulator: Any) -> None:
    simulator.control(error={"next": 2, "kinds": ["cancel"]}, throttle={"next": 1, "kinds": ["cancel"], "seconds": 1})
    made = await worker.replicate.create(CAT.model, {**INPUT, "predict_time": 60})
    await creation.cancel_prediction(work_on(worker), made.id)
    assert simulator.ledger()["creates"][0]["status"] == "canceled"


@brisk
async def test_a_prediction_that_cannot_be_canceled_is_named(
    worker: Context, simulator: Any, caplog: pytest.LogCaptureFixture
) -> None:
    simulator.control(error={"rate": 1.0, "kinds": ["cancel"]})
    made = await worker.replicate.create(CAT.model, CAT.input)
    await creation.cancel_prediction(work_on(worker), made.id)
    assert f"prediction {made.id} could not be canceled" in caplog.text
    await creation.cancel_prediction(work_on(worker), "nosuchprediction")
    simulator.clear()
    await creation.cancel_prediction(work_on(worker), "nosuchprediction")
    assert "prediction nosuchprediction cannot be canceled" in caplog.text


async def test_an_intent_of_another_worker_is_never_replaced_unsearched(
    worker: Context, simulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other worker took the prompt over while this one's create was being throttled."""
    simulator.control(throttle={"next": 1, "kinds": ["create"], "seconds": 1})
    original = work_on(worker).ledger.withdraw

    async def and_then_overtaken(self: Ledger, entry: Entry) -> Entry:
        withdrawn = await original(entry)
        await self.intend(withdrawn)
        return withdrawn

    monkeypatch.setattr(Ledger, "withdraw", and_then_overtaken)
    with pytest.raises(Overtaken):
        await create(work_on(worker), Entry())
    assert simulator.ledger()["created"] == 0


@pytest.mark.parametrize(
    ("prompt", "raised"),
    [
        (replace(CAT, model="deployments/nobody/nothing"), NotFound),
        (replace(CAT, model="nobody/nothing"), InvalidRequest),
        (replace(CAT, input={"prompt": "x", "num_outputs": 9}), InvalidRequest),
    ],
)
async def test_what_will_never_work_is_an_attempt_and_an_error(
    worker: Context, prompt: Prompt, raised: type[Exception]
) -> None:
    with pytest.raises(NotCreated) as refused:
        await create(work_on(worker, prompt), Entry())
    assert isinstance(refused.value.error, raised)
    entry = await work_on(worker, prompt).ledger.read()
    assert entry == refused.value.entry
    assert (entry.attempt, entry.nonce, entry.prediction_ids) == (1, "", ())


async def test_throttling_uses_no_attempt(worker: Context, simulator: Any) -> None:
    simulator.control(throttle={"next": 2, "kinds": ["create"], "seconds": 1, "form": "header"})
    entry, _ = await create(work_on(worker), Entry())
    assert (entry.attempt, entry.unknown_creates) == (1, 0)


async def test_an_api_that_cannot_be_reached_is_waited_for(
    worker: Context, simulator: Any, caplog: pytest.LogCaptureFixture, eventually: Callable[..., Any]
) -> None:
    client = worker.replicate._client  # noqa: SLF001 - an address changes in no other way
    home, client.base_url = client.base_url, httpx.URL("http://127.0.0.1:1")
    creating = asyncio.create_task(create(work_on(worker), Entry()))
    await eventually(lambda: "the API does not answer" in caplog.text)
    client.base_url = home
    entry, _ = await creating
    assert (entry.attempt, entry.unknown_creates) == (1, 0)
    assert simulator.ledger()["created"] == 1


async def test_a_worker_that_stalled_after_its_intent_sends_nothing(
    worker: Context,
    simulator: Any,
    caplog: pytest.LogCaptureFixture,
    eventually: Callable[..., Any],
) -> None:
    stalled = replace(worker, timing=Timing(jitter=lambda: 0.01, create_timeout=-1.0))
    creating = asyncio.create_task(create(work_on(stalled), Entry()))
    await eventually(lambda: "this worker stalled before it could send the request" in caplog.text)
    creating.cancel()
    await asyncio.wait([creating])
    assert simulator.ledger()["created"] == 0
    entry, _ = await create(work_on(worker), await work_on(worker).ledger.read())
    assert entry.attempt == 1


async def test_a_create_under_way_ends_before_its_cancel(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    simulator.control(delay={"next": 1, "kinds": ["create"], "seconds": 0.5})
    creating = asyncio.create_task(create(work_on(worker), Entry()))
    await eventually(lambda: worker.redis.hexists(keys.ledger("night"), "0"))
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    assert [(await work_on(worker).ledger.read()).prediction_id] == [
        made["id"] for made in simulator.ledger()["creates"]
    ]


@pytest.mark.parametrize("timing", [Timing(stop_patience=0.1)])
async def test_a_create_that_hangs_is_left_to_a_search(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    simulator.control(lost_answer={"next": 1, "how": "hang"})
    creating = asyncio.create_task(create(work_on(worker), Entry()))
    await eventually(lambda: simulator.ledger()["created"])
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    entry = await work_on(worker).ledger.read()
    assert entry.ambiguous
    found = await search(work_on(worker), entry)
    assert [found.prediction_id] == [made["id"] for made in simulator.ledger()["creates"]]
    assert not worker.creates or all(task.cancelling() for task in worker.creates)


async def test_nothing_is_created_while_paused(
    worker: Context, simulator: Any, eventually: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    await worker.account.pause("no credit")
    creating = asyncio.create_task(create(work_on(worker), Entry()))
    await eventually(lambda: "create limit: paused: no credit" in caplog.text)
    assert simulator.ledger()["created"] == 0
    await worker.account.resume()
    await creating


@pytest.mark.parametrize("timing", [Timing(account_recheck=0.5)])
async def test_a_pause_for_missing_credit_is_tried_again_by_one_create_at_a_time(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    simulator.control(payment_required={"rate": 1.0})
    creating = [asyncio.create_task(create(work_on(worker, prompt), Entry())) for prompt in (CAT, TWIN)]
    assert "402" in await eventually(worker.account.pause_reason)
    assert "lifted when" in str(await worker.account.pause_reason())
    before = simulator.ledger()["calls"]["create"]
    await eventually(lambda: simulator.ledger()["calls"]["create"] >= before + 2)
    assert await worker.account.pause_reason(), "it stays while it is tried"
    simulator.clear()
    entries = [entry for entry, _ in await asyncio.gather(*creating)]
    assert [entry.attempt for entry in entries] == [1, 1]
    assert await worker.account.pause_reason() is None


async def test_one_401_that_the_account_does_not_confirm_pauses_nobody(worker: Context, simulator: Any) -> None:
    simulator.control(unauthorized={"next": 1, "kinds": ["create"]})
    entry, _ = await create(work_on(worker), Entry())
    assert entry.attempt == 1
    assert await worker.account.pause_reason() is None
    assert simulator.ledger()["calls"]["account"] == 1


@pytest.mark.parametrize("timing", [Timing(token_again=0.05)])
async def test_a_token_that_is_refused_once_there_too_is_asked_for_twice(worker: Context, simulator: Any) -> None:
    simulator.control(unauthorized={"next": 2, "kinds": ["create", "account"]})
    await create(work_on(worker), Entry())
    assert await worker.account.pause_reason() is None
    assert simulator.ledger()["calls"]["account"] == 2


@pytest.mark.parametrize("timing", [Timing(token_again=0.05, account_recheck=0.2)])
async def test_a_refused_token_pauses_until_it_is_accepted_again(
    worker: Context, simulator: Any, eventually: Callable[..., Any]
) -> None:
    simulator.control(unauthorized={"rate": 1.0})
    creating = asyncio.create_task(create(work_on(worker), Entry()))
    assert "401" in await eventually(worker.account.pause_reason)
    asked = simulator.ledger()["calls"]["account"]

    async def is_asked_again() -> bool:
        await worker.gate.token.lift_if_accepted()
        return bool(simulator.ledger()["calls"]["account"] > asked)

    await eventually(is_asked_again)
    assert await worker.account.pause_reason(), "refused still"
    simulator.clear()
    await eventually(lambda: lifted(worker))
    entry, _ = await creating
    assert entry.attempt == 1


async def lifted(worker: Context) -> bool:
    await worker.gate.token.lift_if_accepted()
    return await worker.account.pause_reason() is None


@pytest.mark.parametrize("timing", [Timing(account_recheck=0.0)])
@pytest.mark.parametrize("first", ["by hand", "401", "402"])
async def test_a_pause_by_hand_stays_whatever_a_worker_finds(worker: Context, first: str) -> None:
    if first != "by hand":
        assert await worker.account.pause_for(first, "refused")
    assert await worker.account.pause("lunch")
    assert not await worker.account.pause("again")
    assert not await worker.account.pause_for("402", "no credit")
    await worker.gate.token.lift_if_accepted()
    assert [await worker.account.is_due(by) for by in ("401", "402")] == [False, False]
    assert [await worker.account.lift(by) for by in ("401", "402")] == [False, False]
    assert await worker.account.pause_reason() == "lunch"
    assert await worker.account.resume()
    assert await worker.account.pause_reason() is None


async def test_one_worker_looks_at_a_pause(worker: Context) -> None:
    await worker.account.pause_for("401", "refused")
    assert not await worker.account.is_due("401")
    await worker.redis.hset(keys.own_pause(worker.config.api_host), "next", "1")
    assert [await worker.account.is_due("401") for _ in range(2)] == [True, False]


@brisk
@pytest.mark.parametrize("form", ["html", "cloudflare", "empty"])
async def test_a_block_page_holds_everybody_and_uses_up_nothing(
    worker: Context, simulator: Any, eventually: Callable[..., Any], form: str
) -> None:
    simulator.control(error={"rate": 1.0, "kinds": ["create"], "status": 403, "form": form, "retry_after": 2})
    creating = [asyncio.create_task(create(work_on(worker, prompt), Entry())) for prompt in (CAT, TWIN)]
    assert "(403)" in await eventually(worker.account.notice)
    assert float(await worker.redis.hget(keys.limit(worker.config.api_host, "create"), "hold"))
    simulator.clear()
    entries = [entry for entry, _ in await asyncio.gather(*creating)]
    assert [(entry.attempt, entry.unknown_creates) for entry in entries] == [(1, 0), (1, 0)]
    calls = simulator.ledger()["calls"]
    assert (calls["create"] <= 4, simulator.ledger()["created"], calls.get("list", 0)) == (True, 2, 0)
    assert await worker.account.notice() is None


@hasty
async def test_another_page_in_the_apis_place_is_searched_for(worker: Context, simulator: Any) -> None:
    simulator.control(error={"next": 1, "kinds": ["create"], "status": 404, "form": "html"})
    entry, _ = await create(work_on(worker), Entry())
    assert (entry.attempt, entry.unknown_creates) == (1, 1)
    assert simulator.ledger()["calls"]["list"] >= 1


@brisk
async def test_a_prompt_that_alone_is_blocked_is_refused_and_others_go_on(
    worker: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = worker.replicate.create

    async def firewalled(model: str, given: Any) -> Any:
        if "<script>" in given["prompt"]:
            raise Blocked("something else answers in the API's place (403)", status=403, retry_after=0.01)
        return await post(model, given)

    monkeypatch.setattr(worker.replicate, "create", firewalled)
    bad = asyncio.create_task(create(work_on(worker, replace(CAT, input={"prompt": "<script>"})), Entry()))
    while not bad.done():
        await create(work_on(worker, TWIN), Entry())
        await worker.redis.hdel(keys.ledger("night"), "1")
    with pytest.raises(NotCreated, match="this prompt's input"):
        await bad


@brisk
@pytest.mark.parametrize(("worked", "times", "calls"), [("works", 1, 3), ("works", 2, 3), ("is new", 1, 1)])
async def test_a_model_that_has_worked_and_is_not_found_is_asked_for_once_more(
    worker: Context,
    simulator: Any,
    worked: str,
    times: int,
    calls: int,
) -> None:
    if worked == "works":
        await create(work_on(worker, TWIN), Entry())
        worker.refused_rows.note_created(work_on(worker).shard, CAT.model)
    simulator.control(error={"next": times, "kinds": ["create"], "status": 404, "form": "problem"})
    if (worked, times) == ("works", 1):
        entry, _ = await create(work_on(worker), Entry())
        assert entry.attempt == 1
    else:
        with pytest.raises(NotCreated):
            await create(work_on(worker), Entry())
    assert simulator.ledger()["calls"]["create"] == calls


async def test_a_429_that_names_its_wait_in_words_only_is_waited_out(worker: Context, simulator: Any) -> None:
    text = "Request was throttled. Expected available in 2 seconds."
    simulator.control(throttle={"next": 1, "kinds": ["create"], "detail": text})
    creating = asyncio.create_task(create(work_on(worker), Entry()))
    entry, _ = await creating
    assert entry.attempt == 1
    assert simulator.ledger()["calls"]["create"] == 2


@brisk
async def test_a_cancel_outlasts_block_pages_and_a_false_401(worker: Context, simulator: Any) -> None:
    _, made = await create(work_on(worker, replace(CAT, input={**INPUT, "predict_time": 60})), Entry())
    assert made
    simulator.control(error={"next": 2, "kinds": ["cancel"], "status": 403, "form": "html", "retry_after": 1})
    await cancel_prediction(work_on(worker), made.id)
    assert (await worker.replicate.get(made.id)).status == "canceled"
