"""The events: each valid by the schema in docs/, short enough for every service, and of one id for one fact."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.batch_folder.folder import Folder
from jobs.notify import conditions
from jobs.notify.event import EVENTS, LONGEST_TEXT, TYPES, Event
from jobs.notify.summary import MOST_GROUPS, OTHERS, FailureTally, finished_event
from jobs.wire import Batch, ErrorKind, Failure, Result

SCHEMA = json.loads(Path(__file__).parents[4].joinpath("docs", "notify.schema.json").read_text())
VALIDATOR = jsonschema_rs.validator_for(SCHEMA)
BATCH = Batch(
    "night", "b1", "api.example.com", 1000.0, 1200, 1, 1.0, succeeded=1100, failed=90, canceled=10, predictions=1234,
    cost=12_300_000, max_cost=20_000_000,
)  # fmt: skip


def failed(message: str, kind: ErrorKind = "model_error") -> Result:
    return Result(id="a", index=0, status="failed", model="m", input={}, error=Failure(kind=kind, message=message))


def tally_of(*results: Result) -> FailureTally:
    tally = FailureTally()
    for result in results:
        if result.error:
            tally.count(result.error.kind, result.error.message)
    return tally


def finished(tally: FailureTally | None = None, batch: Batch = BATCH) -> Event:
    return finished_event(batch, Folder(Path("/outputs"), "night"), tally or FailureTally(), 4725.25)


EXAMPLES = [
    finished(),
    conditions.missed_event("nightly", 1_700_000_000, "nightly-1", "no file", again=True),
    conditions.wrong_schedules_event("schedules.toml: 1 error\n  line 3: no"),
    conditions.paused_event(1, "402", "no credit"),
    conditions.paused_event(1, "low_credit", "low"),
    conditions.paused_event(1, "hand", "lunch", "ada@ws"),
    conditions.paused_event(1, "hand", "lunch"),
    conditions.backlog_event(1, "the disk is full"),
    conditions.budget_event(BATCH, 1),
    conditions.dead_letter_event("night", "b1", "night:0:0", "it crashed"),
    conditions.trial_event(),
]


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.name)
def test_a_payload_is_as_the_schema_says(event: Event) -> None:
    VALIDATOR.validate(event.payload())


def test_every_event_has_an_example_and_its_type_is_in_the_schema() -> None:
    assert {event.name for event in EXAMPLES} == {*EVENTS, "test"}
    assert set(SCHEMA["properties"]["type"]["enum"]) == set(TYPES.values())


def test_the_schema_refuses_what_lacks_a_fact() -> None:
    payload = finished().payload()
    del payload["data"]["failed"]
    assert not VALIDATOR.is_valid(payload)


def test_the_summary_of_a_night() -> None:
    results = [failed(f"CUDA error {number}") for number in range(80)] + [failed("no face", "content_policy")] * 10
    event = finished(tally_of(*results))
    assert event.subject == "night is finished: 1,100 of 1,200 succeeded, 90 failed, 10 canceled"
    reasons, content, cost, place, following = event.text.splitlines()
    assert (reasons, content) == ("80 failed, model_error: CUDA error N", "10 failed, content_policy: no face")
    assert cost == "Cost $12.30, it took 1:02:05. 1,234 predictions."
    assert place.endswith("in /outputs/night")
    assert following == "Next: python -m jobs retry night"


def test_a_cost_of_which_a_part_is_not_known_is_the_least() -> None:
    event = finished(batch=replace(BATCH, unpriced=2))
    assert event.text.startswith("Cost at least $12.30, it took")
    assert event.data["cost_is_partial"]
    assert not finished(batch=replace(BATCH, unpriced=2, cost=0)).data["cost_is_partial"]


def test_a_canceled_batch_says_so_and_a_whole_one_leads_to_its_results() -> None:
    canceled = finished(batch=replace(BATCH, cancel_requested=True))
    assert canceled.subject.startswith("night was canceled: 1,100 of 1,200 succeeded")
    assert canceled.data["state"] == "canceled"
    assert finished(batch=replace(BATCH, failed=0, canceled=0)).data["next"] == "python -m jobs results night"


def test_a_folder_whose_name_is_no_utf8_holds_up_nothing() -> None:
    event = finished_event(BATCH, Folder(Path("/out\udcffputs"), "night"), FailureTally(), 4725.25)
    assert event.data["folder"] == "/out?puts/night"
    assert Event.model_validate_json(event.model_dump_json()) == event


def test_a_message_has_one_id_without_full_stops() -> None:
    event = finished()
    assert event.message_id == finished().message_id
    assert "." not in event.message_id
    assert event.message_id != conditions.budget_event(BATCH, 0).message_id


ANY = st.characters(exclude_categories=[])  # lone surrogates, too, as in paths that are no UTF-8


@given(st.lists(st.text(ANY, max_size=300), min_size=1, max_size=50), st.text(ANY, max_size=500))
def test_no_text_is_too_long_and_every_one_is_json(messages: list[str], title: str) -> None:
    facts = finished(tally_of(*map(failed, messages))).model_dump()
    event = Event.model_validate({**facts, "title": title, "data": {**facts["data"], "folder": title}})
    assert len(event.text) <= LONGEST_TEXT
    assert "\n" not in event.subject
    VALIDATOR.validate(json.loads(json.dumps(event.payload())))
    assert Event.model_validate_json(event.model_dump_json()) == event


def test_a_million_messages_are_few_groups() -> None:
    words = ["".join(chr(97 + number // 26**place % 26) for place in range(3)) for number in range(MOST_GROUPS + 50)]
    tally = tally_of(*(failed(f"no {word}") for word in words), failed(f"no {words[0]}"))
    assert len(tally.groups) == MOST_GROUPS + 1
    assert tally.groups["model_error", OTHERS] == 50
    assert sum(reason["count"] for reason in tally.reasons()) > 50
