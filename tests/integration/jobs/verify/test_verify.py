"""`verify` of a finished batch: silent while nothing is broken, and it names whatever is."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.batch_folder.gallery import write_gallery
from jobs.queue.shard_queue import serialize

Break = Callable[[Any], object]


def path(night: Any, name: str) -> Path:
    found: Path = night.folder.path / name
    return found


def edit(night: Any, name: str, old: str, new: str) -> None:
    text = path(night, name).read_text()
    assert old in text
    path(night, name).write_text(text.replace(old, new, 1))


def drop_line(night: Any, name: str, number: int) -> None:
    lines = path(night, name).read_bytes().splitlines(keepends=True)
    path(night, name).write_bytes(b"".join(line for place, line in enumerate(lines) if place != number))


def take_prediction(night: Any) -> None:
    one = json.loads(path(night, "one/prediction.json").read_text())
    two = json.loads(path(night, "two/prediction.json").read_text())
    two["prediction_ids"] += one["prediction_ids"]
    path(night, "two/prediction.json").write_text(json.dumps(two))


def swap(night: Any, one: str, other: str) -> None:
    path(night, one).rename(path(night, "swap"))
    path(night, other).rename(path(night, one))
    path(night, "swap").rename(path(night, other))


def saving(night: Any) -> None:
    (night.folder.saving("one", "abc")).mkdir(parents=True)


def ledger(night: Any, index: int, **fields: Any) -> None:
    entry = {"attempt": 1, "nonce": "n", "at": 1.0, "prediction_ids": "", "unknown_creates": 0, "aborted": 0}
    night.redis.hset(night.key("ledger"), index, json.dumps(entry | {"cost": 0, "reserved": 0} | fields))


def count(night: Any, field: str, by: int) -> Any:
    return night.redis.hincrby(night.key("batch"), field, by)


def change_under_segment(night: Any) -> None:
    """A record that is overwritten in place: its folder stays as the segment knows it."""
    write_gallery(night.folder, fsync=False)
    edit(night, "one/prediction.json", '"attempts": 1', '"attempts": 2')


def cut_segment(night: Any) -> None:
    path(night, ".segments/.0.ab.part").touch()


def make_folder(night: Any, name: str) -> None:
    path(night, name).unlink()
    path(night, name).mkdir()


FOLDER: dict[str, tuple[Break, str]] = {
    "a file is gone": (lambda n: path(n, "one/output_0.png").unlink(), "one: output_0.png is missing"),
    "a file is cut": (lambda n: path(n, "two/output_1.png").write_bytes(b"x"), "two: output_1.png has 1 bytes"),
    "a file is a folder": (lambda n: make_folder(n, "one/output_0.png"), "one: output_0.png is not a file"),
    "a file too many": (lambda n: path(n, "one/more.png").touch(), "one: more.png is a file that its record does not"),
    "the text is gone": (lambda n: path(n, "text/output.txt").unlink(), "text: output.txt is missing"),
    "the text is another": (lambda n: edit(n, "text/output.txt", "line", "lime"), "text: output.txt does not say"),
    "the value is gone": (lambda n: path(n, "json/output.json").unlink(), "json: output.json is missing"),
    "the value is another": (lambda n: path(n, "empty/output.json").write_text("[1]"), "empty: output.json does not"),
    "the value is broken": (lambda n: path(n, "empty/output.json").write_text("["), "empty: output.json does not say"),
    "a record is gone": (
        lambda n: path(n, "one/prediction.json").unlink(),
        "one: Redis has its result, and its record is missing. Cure: restore it",
    ),
    "a folder is gone": (lambda n: shutil.rmtree(path(n, "one")), "one: Redis has its result, and its record is"),
    "a failed record is gone": (
        lambda n: shutil.rmtree(path(n, "fails")),
        "fails: Redis has its result, and its record is missing. Cure: `python -m jobs retry night`",
    ),
    "a record is no record": (lambda n: path(n, "one/prediction.json").write_text("{"), "one: .* is no record"),
    "a record says another status": (
        lambda n: edit(n, "null/prediction.json", '"succeeded"', '"failed"'),
        "null: Redis counts it as succeeded, its record says failed",
    ),
    "a failure that became canceled": (
        lambda n: edit(n, "fails/prediction.json", '"failed"', '"canceled"'),
        "Redis counts 0 canceled, the records 1",
    ),
    "a record of another index": (lambda n: edit(n, "one/prediction.json", '"index": 0', '"index": 7'), "one: .*index"),
    "a record of another input": (lambda n: edit(n, "one/prediction.json", "a cat", "a dog"), "one: .* input is not"),
    "a record of another model": (
        lambda n: edit(n, "json/prediction.json", '"simulator/json"', '"simulator/jsun"'),
        "json: .* model is not that of the row",
    ),
    "records that were swapped": (lambda n: swap(n, "one", "two"), "one: its record is of another prompt: id"),
    "a record that leads elsewhere": (
        lambda n: edit(n, "one/prediction.json", '"path": "one/', '"path": "../one/'),
        "one: its record names a file outside of its folder",
    ),
    "a prediction that serves two": (take_prediction, "prediction .* serves one and two"),
    "a folder without a row": (lambda n: path(n, "stranger").mkdir(), "the folder stranger belongs to no prompt"),
    "folders that were being saved": (saving, ".saving is there, with 1 folder"),
    "a file that was being written": (lambda n: path(n, ".results.jsonl.ab.part").touch(), "never written to its end"),
    "a segment with another result": (
        change_under_segment,
        r"one: \.segments/0 has another result than its record. Cure: remove \.segments/0, then",
    ),
    "a segment that was being written": (cut_segment, r"\.segments/\.0\.ab\.part was never written to its end"),
    "no gallery": (lambda n: n.folder.gallery.unlink(), "index.html is missing. Cure: `python -m jobs gallery night`"),
    "no results": (lambda n: n.folder.results.unlink(), "results.jsonl is missing. Cure: `python -m jobs results"),
    "no errors": (lambda n: n.folder.errors.unlink(), "errors.jsonl is missing"),
    "a result less": (lambda n: drop_line(n, "results.jsonl", 3), "results.jsonl has no line for tokens"),
    "the last result less": (lambda n: drop_line(n, "results.jsonl", 9), "results.jsonl has no line for empty"),
    "an error less": (lambda n: drop_line(n, "errors.jsonl", 0), "errors.jsonl has no line for fails"),
    "another result": (lambda n: edit(n, "results.jsonl", '"attempts":1', '"attempts":2'), "line 1 is not the record"),
    "a result more": (
        lambda n: n.folder.results.write_text(n.folder.results.read_text() * 2),
        "results.jsonl, line 11 is out of place",
    ),
    "no JSON in the results": (lambda n: edit(n, "results.jsonl", '{"id":"two"', '"id":"two"'), "line 2 is no result"),
    "no copy": (lambda n: n.folder.prompts.unlink(), "prompts.jsonl is missing"),
    "a row less": (lambda n: drop_line(n, "prompts.jsonl", 9), "Redis counts 10 prompts, prompts.jsonl has 9"),
    "a torn row": (lambda n: n.folder.prompts.write_bytes(n.folder.prompts.read_bytes()[:-9]), "line 10, is damaged"),
    "another row": (lambda n: edit(n, "prompts.jsonl", "a cat", "a dog"), "one: .* input is not that of the row"),
    "an id that leads elsewhere": (lambda n: edit(n, "prompts.jsonl", '"one"', '"../one"'), "line 1, is damaged"),
    "an id twice": (lambda n: edit(n, "prompts.jsonl", '"two"', '"one"'), "has the id one in lines 1 and 2"),
    "no folder": (lambda n: shutil.rmtree(n.folder.path), "batch.json is missing. Cure: set BATCH_OUTPUT_DIR"),
    "no batch.json": (lambda n: n.folder.manifest.unlink(), "Redis knows the batch, and .*batch.json is missing"),
    "another batch.json": (lambda n: n.folder.manifest.write_text('{"id": "x"}'), "Redis knows another batch"),
    "a broken batch.json": (lambda n: n.folder.manifest.write_text("{"), "batch.json cannot be read"),
}
REDIS: dict[str, tuple[Break, str]] = {
    "a bit less": (
        lambda n: n.redis.setbit(n.key("settled"), 2, 0),
        "text: 1 prompt has no result, and job night:0:0 is not in the queue. Cure: `python -m jobs retry night`",
    ),
    "a bit too many": (lambda n: n.redis.setbit(n.key("settled"), 70, 1), "results of 1 prompts that are not in"),
    "not succeeded": (
        lambda n: n.redis.setbit(n.key("unsuccessful"), 0, 1),
        "one: Redis counts it as not succeeded, its record says succeeded",
    ),
    "succeeded": (lambda n: n.redis.setbit(n.key("unsuccessful"), 7, 0), "fails: Redis counts it as succeeded, its"),
    "not succeeded, not settled": (
        lambda n: n.redis.setbit(n.key("settled"), 7, 0),
        "fails: Redis has it as not succeeded, and as not settled",
    ),
    "bitmaps gone": (lambda n: n.redis.delete(n.key("settled"), n.key("unsuccessful")), "bitmaps have 0 succeeded"),
    "a success too many": (lambda n: count(n, "succeeded", 1), "Redis counts 10 succeeded, 1 failed and 0 canceled"),
    "a failure less": (lambda n: count(n, "failed", -1), "Redis counts 9 succeeded, 0 failed and 0 canceled"),
    "a failure as canceled": (
        lambda n: (count(n, "failed", -1), count(n, "canceled", 1)),
        "Redis counts 0 failed, the records 1",
    ),
    "a prompt too many": (lambda n: count(n, "total", 1), "Redis counts 11 prompts, prompts.jsonl has 10"),
    "never finished": (lambda n: n.redis.hdel(n.key("batch"), "finished_at"), "no job in the queue will finish"),
    "an entry left": (lambda n: ledger(n, 0), "one: it has its result, and still has an entry in the ledger"),
    "a prediction of an entry": (
        lambda n: ledger(n, 1, prediction_ids=json.loads(path(n, "one/prediction.json").read_text())["prediction_id"]),
        "prediction .* serves one and two",
    ),
    "an entry of nobody": (lambda n: ledger(n, 99), "the ledger has an entry of prompt 99, which is not in"),
    "an entry that is none": (lambda n: n.redis.hset(n.key("ledger"), "0", "?"), "the ledger's entry '0' is not"),
    "a reservation left": (lambda n: n.redis.hset(n.key("batch"), "reservations", 1), "Redis counts 1 open attempts"),
    "a prediction less": (lambda n: count(n, "predictions", -1), "Redis counts 9 predictions, the records name 10"),
    "a batch that is none": (lambda n: n.redis.hset(n.key("batch"), "total", "many"), "is not readable"),
    "another batch of the name": (lambda n: n.redis.hset(n.key("batch"), "id", "x"), "Redis knows another batch"),
}
BREAKS = FOLDER | REDIS


def test_an_untouched_batch_agrees(finished: Any) -> None:
    found = finished.verify()
    assert (found.disagreements, found.notes) == ((), ())
    assert (found.in_redis, found.finished, found.prompts, found.results) == (True, True, 10, 10)
    assert (found.files, found.unread) == (6, 0)
    quick = finished.verify(read=False)
    assert (quick.disagreements, quick.unread) == ((), 6)


def test_copies_of_inputs_belong_to_the_batch(finished: Any) -> None:
    copies = path(finished, ".inputs")
    copies.mkdir()
    (copies / f"{'0' * 64}.png").write_bytes(b"picture")
    assert finished.verify().agrees
    (copies / ".half.png.abcd.part").touch()
    (found,) = finished.verify().disagreements
    assert found.what == ".inputs/.half.png.abcd.part was never written to its end"


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_is_named(finished: Any, name: str) -> None:
    act, line = BREAKS[name]
    act(finished)
    lines = [str(one) for one in finished.verify().disagreements]
    assert [one for one in lines if re.search(line, one)], lines


def test_other_bytes_of_the_same_size_are_found_by_reading(finished: Any) -> None:
    file = path(finished, "one/output_0.png")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    (found,) = finished.verify().disagreements
    assert (found.prompt, "sha256" in found.what) == ("one", True)
    assert finished.verify(read=False).agrees


def test_a_batch_that_redis_forgot_is_compared_with_its_results(finished: Any) -> None:
    finished.redis.flushall()
    found = finished.verify()
    assert (found.agrees, found.in_redis, found.finished) == (True, False, True)
    assert "Redis does not know this batch" in found.notes[0]
    shutil.rmtree(path(finished, "one"))
    found = finished.verify()
    assert [str(one) for one in found.disagreements] == [
        "one: results.jsonl has its result, and its record is missing. Cure: restore it, or have it created again"
    ]
    finished.folder.results.unlink()
    assert finished.verify().agrees, "then nobody knows that it was there"
    assert "1 prompts have no record" in finished.verify().notes[1]


FILES = [
    "prompts.jsonl",
    "results.jsonl",
    "errors.jsonl",
    "one/output_0.png",
    "mixed/output_file.bin",
    "json/output.json",
]


@given(name=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_flipped_bit_stays_unseen(finished: Any, name: str, place: float, bit: int) -> None:
    file = path(finished, name)
    whole = file.read_bytes()
    broken = bytearray(whole)
    broken[int(place * len(whole))] ^= 1 << bit
    file.write_bytes(broken)
    assert not finished.verify().agrees
    file.write_bytes(whole)


def test_a_payload_of_a_finished_batch_is_no_disagreement(finished: Any) -> None:
    """Its job returns after the batch was finished."""
    finished.redis.zadd(f"replicate-batch:queue:1:{finished.config.api_host}", {"night:0:0": 1})
    finished.redis.set("arq:job:night:0:0", serialize({"a": []}))
    assert finished.verify().agrees
