from __future__ import annotations

import json
import pickle
import tracemalloc
import zlib
from typing import Any

import pytest
from arq.jobs import deserialize_job_raw, serialize_result
from hypothesis import given
from hypothesis import strategies as st

from jobs.queue.payload import FUNCTION, JobId, Parcel, PayloadError, deserialize, pack, pack_rows, serialize, unpack
from jobs.wire import Prompt, Shard

PROMPTS = (
    Prompt(300, "a", "owner/name", {"prompt": "fox ü 🦊", "seed": 1, "nested": [{"x": None}, 0.5, True]}, 2),
    Prompt(305, "b.c", "deployments/o/n", {}, 2),
)
SHARD = Shard("night", "f00d", 3, 2, PROMPTS)


def rows(shard: Shard) -> list[bytes]:
    return [json.dumps({"id": p.id, "input": p.input, "model": p.model}).encode() for p in shard.prompts]


def header(shard: Shard) -> Shard:
    return Shard(shard.batch, shard.batch_id, shard.number, shard.generation, ())


def unpacked(data: bytes, job_id: str = SHARD.job_id) -> Shard:
    """What a worker makes of a payload that arq hands over."""
    function, (parcel,), kwargs, job_try, at = deserialize_job_raw(data, deserializer=deserialize)
    assert (function, parcel, kwargs) == (FUNCTION, Parcel(data), {})
    assert job_try is None
    assert at > 1_700_000_000_000
    return unpack(parcel.payload, job_id)


def test_a_worker_reads_back_the_shard_that_was_packed() -> None:
    packed = pack(SHARD)
    assert unpacked(packed.payload) == SHARD
    assert unpacked(packed.payload).prompts == PROMPTS
    assert (packed.job_id, packed.prompts) == ("night:3:2", 2)


def test_the_lines_of_the_copy_make_the_same_job() -> None:
    packed = pack_rows(header(SHARD), [300, 305], rows(SHARD))
    assert unpacked(packed.payload) == unpacked(pack(SHARD).payload) == SHARD
    assert (packed.job_id, packed.prompts) == ("night:3:2", 2)


def test_what_arq_logs_of_a_shard_is_short() -> None:
    data = pack(SHARD).payload
    assert str(deserialize(data)["a"]) == f"({len(data)} bytes,)"
    assert repr(SHARD) == "night:3:2, 2 prompts"


def test_ordinary_text_takes_few_bytes() -> None:
    prompts = [Prompt(i, f"p-{i}", "black-forest-labs/flux-schnell", {"prompt": f"a fox, {i}"}) for i in range(100)]
    shard = Shard("night", "f00d", 0, 0, tuple(prompts))
    assert len(pack(shard).payload) < 100 * 20


def job_of(**fields: Any) -> bytes:
    """A payload like the shard's, with other fields."""
    job = json.loads(zlib.decompress(pack(SHARD).payload))
    job["a"][0] |= fields
    return zlib.compress(json.dumps(job).encode())


ROW = {"id": "a", "model": "o/n", "input": {}}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        pickle.dumps({"f": "x"}),
        zlib.compress(pickle.dumps({"f": FUNCTION, "a": [SHARD]})),
        pack(SHARD).payload[:-10],
        pack(SHARD).payload + b"x",
        zlib.compress(b"[]"),
        zlib.compress(b"null"),
        zlib.compress(b"[" * 1_000_000),
        zlib.compress(b'{"f": "x", "a": [{}], "k": {}, "t": 1, "et": 1}'),
        zlib.compress(json.dumps({"f": FUNCTION, "a": []}).encode()),
        zlib.compress(json.dumps({"f": FUNCTION, "a": [[]]}).encode()),
        zlib.compress(b"\xff"),
        zlib.compress(zlib.decompress(pack(SHARD).payload).replace(FUNCTION.encode(), b"os.system")),
        job_of(batch="other"),
        job_of(batch=7),
        job_of(batch_id=None),
        job_of(number=4),
        job_of(number="3"),
        job_of(number=3.0),
        job_of(generation=1),
        job_of(generation=True),
        job_of(indexes=[300]),
        job_of(indexes=[300, 300]),
        job_of(indexes=[299, 300]),
        job_of(indexes=[300, 400]),
        job_of(indexes=[True, 300]),
        job_of(indexes=[300.0, 301]),
        job_of(indexes="ab"),
        job_of(indexes=[], rows=[]),
        job_of(indexes=None, rows=None),
        job_of(rows=[ROW]),
        job_of(rows=[ROW, "a"]),
        job_of(rows=[ROW, {}]),
        job_of(rows=[ROW, ROW | {"id": 7}]),
        job_of(rows=[ROW, ROW | {"id": "../../etc"}]),
        job_of(rows=[ROW, ROW | {"id": ".saving"}]),
        job_of(rows=[ROW, ROW | {"id": "b\n"}]),
        job_of(rows=[ROW, ROW | {"id": "results.jsonl"}]),
        job_of(rows=[ROW, ROW | {"model": None}]),
        job_of(rows=[ROW, ROW | {"input": ["prompt"]}]),
    ],
)
def test_a_payload_that_is_not_as_it_was_packed_is_refused(data: bytes) -> None:
    with pytest.raises(PayloadError, match="its payload in Redis is damaged"):
        unpacked(data)


def test_the_payload_of_another_job_is_refused() -> None:
    with pytest.raises(PayloadError, match="another job's"):
        unpacked(pack(SHARD).payload, "night:3:1")


def test_unpacking_is_bounded() -> None:
    data = pack(SHARD).payload
    size = len(zlib.decompress(data))
    assert unpack(data, SHARD.job_id, size) == SHARD
    with pytest.raises(PayloadError, match="cut short, or unpacked larger than"):
        unpack(data, SHARD.job_id, size - 1)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(50_000_000), 1)
    tracemalloc.start()
    try:
        with pytest.raises(PayloadError, match="larger than"):
            unpack(bomb, SHARD.job_id, 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text", ["", "night", "night:0", "night:0:0:0", "../x:0:0", ".x:0:0", "night:-1:0", "n:x:0", "n:٣:0"]
)
def test_a_job_id_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(PayloadError):
        JobId.parse(text)


def test_a_job_id_is_read_and_written() -> None:
    assert JobId.parse(SHARD.job_id) == ("night", 3, 2)
    assert str(JobId.parse(SHARD.job_id)) == SHARD.job_id


def test_a_shard_of_large_prompts_comes_through() -> None:
    large = tuple(Prompt(i, f"{i}", "o/n", {"image": f"{i}" * 1_000_000}) for i in range(10))
    shard = Shard("night", "f00d", 0, 0, large)
    assert unpacked(pack_rows(header(shard), range(10), rows(shard)).payload, shard.job_id) == shard


def test_arq_can_keep_a_failure_of_a_job() -> None:
    error = ValueError("no")
    kept = serialize_result(
        FUNCTION,
        (SHARD,),
        {},
        1,
        1,
        success=False,
        result=error,
        start_ms=1,
        finished_ms=2,
        ref="ref",
        queue_name="queue",
        job_id="id",
        serializer=serialize,
    )
    assert kept is not None
    result = json.loads(zlib.decompress(kept))
    assert result["r"] == "ValueError('no')"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(values=st.lists(st.dictionaries(st.text(), JSON, max_size=3), min_size=1, max_size=4))
def test_any_input_survives_both_ways(values: list[dict[str, Any]]) -> None:
    prompts = tuple(Prompt(100 + n, f"id-{n}", "o/n", value) for n, value in enumerate(values))
    shard = Shard("b", "i", 1, 0, prompts)
    assert unpacked(pack(shard).payload, "b:1:0") == shard
    assert unpacked(pack_rows(header(shard), [p.index for p in prompts], rows(shard)).payload, "b:1:0") == shard


def test_text_that_is_no_unicode_comes_through() -> None:
    prompt = Prompt(300, "a", "o/\ud800", {"\udfff": ["fox \ud83d"]}, 2)
    shard = Shard("night", "f00d", 3, 2, (prompt,))
    assert unpacked(pack(shard).payload) == shard


def test_what_is_wrong_with_a_payload_is_said_without_its_input() -> None:
    with pytest.raises(PayloadError, match=r"damaged \(rows\.1\.input: Input should be a valid dictionary\)"):
        unpacked(job_of(rows=[ROW, ROW | {"input": "secret"}]))


@given(data=st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(PayloadError):
        unpacked(data)
