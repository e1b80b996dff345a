from __future__ import annotations

import json
import pickle
import zlib
from typing import Any

import pytest
from arq.jobs import DeserializationError, deserialize_job_raw, serialize_result
from hypothesis import given
from hypothesis import strategies as st

from jobs import payload
from jobs.models import Prompt, Shard
from jobs.payload import FUNCTION, deserialize, pack, pack_rows, serialize

PROMPTS = (
    Prompt(300, "a", "owner/name", {"prompt": "fox ü 🦊", "seed": 1, "nested": [{"x": None}, 0.5, True]}, 2),
    Prompt(305, "b.c", "deployments/o/n", {}, 2),
)
SHARD = Shard("night", "f00d", 3, 2, PROMPTS)


def rows(shard: Shard) -> list[bytes]:
    return [json.dumps({"id": p.id, "input": p.input, "model": p.model}).encode() for p in shard.prompts]


def header(shard: Shard) -> Shard:
    return Shard(shard.batch, shard.batch_id, shard.number, shard.generation, ())


def unpacked(data: bytes) -> tuple[Any, ...]:
    return deserialize_job_raw(data, deserializer=deserialize)


def test_arq_reads_back_the_shard_that_was_packed() -> None:
    packed = pack(SHARD)
    function, args, kwargs, job_try, at = unpacked(packed.payload)
    assert (function, args, kwargs) == (FUNCTION, (SHARD,), {})
    assert job_try is None
    assert args[0].prompts == PROMPTS
    assert at > 1_700_000_000_000
    assert (packed.job_id, packed.prompts) == ("night:3:2", 2)


def test_the_lines_of_the_copy_make_the_same_job() -> None:
    packed = pack_rows(header(SHARD), [300, 305], rows(SHARD))
    assert unpacked(packed.payload)[:4] == unpacked(pack(SHARD).payload)[:4]
    assert unpacked(packed.payload)[1] == (SHARD,)
    assert (packed.job_id, packed.prompts) == ("night:3:2", 2)


def test_what_arq_logs_of_a_shard_is_short() -> None:
    assert str(unpacked(pack(SHARD).payload)[1]) == "(night:3:2, 2 prompts,)"


def test_ordinary_text_takes_few_bytes() -> None:
    prompts = [Prompt(i, f"p-{i}", "black-forest-labs/flux-schnell", {"prompt": f"a fox, {i}"}) for i in range(100)]
    shard = Shard("night", "f00d", 0, 0, tuple(prompts))
    assert len(pack(shard).payload) < 100 * 20


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        pickle.dumps({"f": "x"}),
        pack(SHARD).payload[:-10],
        pack(SHARD).payload + b"x",
        zlib.compress(b"[]"),
        zlib.compress(b'{"f": "x", "a": [{}], "k": {}, "t": 1, "et": 1}'),
        zlib.compress(b'{"f": "x", "a": [{"indexes": [1], "rows": []}], "k": {}, "t": 1, "et": 1}'),
        zlib.compress(b"\xff"),
    ],
)
def test_a_damaged_payload_is_a_deserialization_error(data: bytes) -> None:
    with pytest.raises(DeserializationError):
        unpacked(data)


def test_unpacking_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack(SHARD).payload
    size = len(zlib.decompress(data))
    monkeypatch.setattr(payload, "MAX_BYTES", size)
    assert deserialize(data)["f"] == FUNCTION
    monkeypatch.setattr(payload, "MAX_BYTES", size - 1)
    with pytest.raises(ValueError, match="damaged, or unpacked larger than"):
        deserialize(data)


def test_a_shard_of_large_prompts_comes_through() -> None:
    large = tuple(Prompt(i, f"{i}", "o/n", {"image": f"{i}" * 1_000_000}) for i in range(10))
    shard = Shard("night", "f00d", 0, 0, large)
    assert unpacked(pack_rows(header(shard), range(10), rows(shard)).payload)[1] == (shard,)


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
    result = deserialize(kept)
    assert result["r"] == "ValueError('no')"
    assert result["a"] == (SHARD,)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(values=st.lists(st.dictionaries(st.text(), JSON, max_size=3), min_size=1, max_size=4))
def test_any_input_survives_both_ways(values: list[dict[str, Any]]) -> None:
    prompts = tuple(Prompt(100 + n, f"id-{n}", "o/n", value) for n, value in enumerate(values))
    shard = Shard("b", "i", 1, 0, prompts)
    assert unpacked(pack(shard).payload)[1] == (shard,)
    assert unpacked(pack_rows(header(shard), [p.index for p in prompts], rows(shard)).payload)[1] == (shard,)


@given(data=st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(DeserializationError):
        unpacked(data)
