"""What an arq job looks like in Redis: JSON, compressed; never pickle. Its one argument is a Shard.

arq drops a job for good whose payload it cannot read, so it gets a Parcel of anything, and `unpack` trusts nothing.
"""

from __future__ import annotations

import json
import re
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ValidationError

from jobs.names import is_prompt_id
from jobs.wire import SHARD_SIZE, Prompt, Shard

FUNCTION = "predict_shard"
"""The one function that workers have."""

MAX_BYTES = 256_000_000
"""Most bytes of an unpacked payload: more than a shard of the longest rows has."""


class PayloadError(ValueError):
    """The payload of a job in Redis is not what was stored."""


class _Row(BaseModel, defer_build=True):
    id: str
    model: str
    input: dict[str, Any]


class _Fields(BaseModel, defer_build=True):
    batch: str
    batch_id: str
    number: int
    generation: int
    indexes: list[int]
    rows: list[_Row]


@dataclass(frozen=True, slots=True, repr=False)
class Parcel:
    """A payload that is not unpacked yet; the holder of the shard's lease does that, and handles its errors."""

    payload: bytes

    def __repr__(self) -> str:
        """Short, because arq logs the repr of a job's arguments at each start."""
        return f"{len(self.payload)} bytes"


@dataclass(frozen=True, slots=True)
class Packed:
    """A shard as it is stored in Redis."""

    job_id: str
    prompts: int
    payload: bytes


def pack(shard: Shard) -> Packed:
    """Return the job of a shard."""
    job: dict[str, Any] = {"t": None, "f": FUNCTION, "a": [shard], "k": {}, "et": _now()}
    return Packed(shard.job_id, len(shard.prompts), serialize(job))


def pack_rows(shard: Shard, indexes: Sequence[int], rows: Sequence[bytes]) -> Packed:
    """Return the same job from prompts as JSON objects `{id, model, input}`: ten times faster."""
    fields = json.dumps(_without_rows(shard) | {"indexes": list(indexes)})[:-1].encode()
    job = b'{"t":null,"f":"%s","k":{},"et":%d,"a":[%s,"rows":[%s]}]}'
    text = job % (FUNCTION.encode(), _now(), fields, b",".join(rows))
    return Packed(shard.job_id, len(rows), zlib.compress(text, 1))


def serialize(job: dict[str, Any]) -> bytes:
    """Serialize a job or a result, as arq's `job_serializer`; what JSON cannot hold becomes its repr."""
    text = json.dumps(job, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return zlib.compress(text.encode("utf-8", "surrogatepass"), 1)


def deserialize(payload: bytes) -> dict[str, Any]:
    """Deserialize a job, as arq's `job_deserializer`; never fails, as it unpacks nothing."""
    return {"t": None, "f": FUNCTION, "a": (Parcel(payload),), "k": {}, "et": _now()}


def unpack(payload: bytes, job_id: str, most: int = MAX_BYTES) -> Shard:
    """Read the shard of a job, of at most so many bytes; PayloadError says what is wrong with a damaged one."""
    try:
        job = json.loads(_text(payload, most))
        shard = _shard(job["a"][0]) if job["f"] == FUNCTION else None
    except (zlib.error, RecursionError, KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        detail = str(error) if isinstance(error, PayloadError) else f"{type(error).__name__}: {str(error)[:200]}"
        raise PayloadError(f"its payload in Redis is damaged ({detail})") from error
    if shard is None or shard.job_id != job_id:
        raise PayloadError("its payload in Redis is damaged (it is another job's)")
    return shard


def _text(payload: bytes, most: int) -> str:
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(payload, most)
    if not unpacking.eof or unpacking.unused_data:
        raise PayloadError(f"cut short, or unpacked larger than {most:,} bytes")
    return text.decode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    if not isinstance(value, Shard):
        return repr(value)
    rows = [{"id": prompt.id, "model": prompt.model, "input": prompt.input} for prompt in value.prompts]
    return _without_rows(value) | {"indexes": [prompt.index for prompt in value.prompts], "rows": rows}


def _without_rows(shard: Shard) -> dict[str, Any]:
    return {
        "batch": shard.batch,
        "batch_id": shard.batch_id,
        "number": shard.number,
        "generation": shard.generation,
    }


def _shard(fields: Any) -> Shard:
    try:
        read = _Fields.model_validate(fields, strict=True)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, wrong["loc"])) or "the shard"
        raise PayloadError(f"{where}: {wrong['msg']}") from error
    indexes, rows, first = read.indexes, read.rows, read.number * SHARD_SIZE
    of_shard = all(first <= index < first + SHARD_SIZE for index in indexes)
    if not rows or not of_shard or len(set(indexes)) < len(indexes):
        raise PayloadError("its prompts are not the shard's")
    prompts = tuple(_prompt(index, row, read.generation) for index, row in zip(indexes, rows, strict=True))
    return Shard(read.batch, read.batch_id, read.number, read.generation, prompts)


def _prompt(index: int, row: _Row, generation: int) -> Prompt:
    if not is_prompt_id(row.id):
        raise PayloadError(f"prompt {index} has an id that no prompt can have")
    return Prompt(index, row.id, row.model, row.input, generation)


def _now() -> int:
    return time.time_ns() // 1_000_000


_JOB = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9._-]{0,63}):(\d{1,9}):(\d{1,9})", re.ASCII)


class JobId(NamedTuple):
    """An arq job id, `<batch>:<n>:<generation>`, in its parts."""

    batch: str
    number: int
    generation: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a job id; PayloadError when it is none of ours."""
        if not (match := _JOB.fullmatch(text)):
            raise PayloadError(f"{text[:200]!r} is no job of ours")
        batch, number, generation = match.groups()
        return cls(batch, int(number), int(generation))

    def __str__(self) -> str:
        """The id as arq knows it."""
        return f"{self.batch}:{self.number}:{self.generation}"
