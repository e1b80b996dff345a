"""A batch in Redis: opened, counted, settled exactly once, canceled, finished, expired."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Literal, Self

from pydantic import TypeAdapter, ValidationError
from redis.asyncio.client import Pipeline

from jobs.errors import BatchNotFound
from jobs.events import log
from jobs.events.event import Event
from jobs.message_groups import first_line
from jobs.prices.money import MICRO, dollars_text
from jobs.redis_client import keys
from jobs.redis_client.client import load_script
from jobs.redis_client.resilience import Redis
from jobs.wire import SHARD_SIZE, Batch, Failure, Outcome, Result

_HOST = re.compile(r"(?:https?://)?(?P<host>[^/]*?)(?::\d+)?(?:/|$)")
"""Without a port, as BATCH_OUTPUT_HOSTS names it."""

Standing = Literal["open", "limited", "paused", "canceled", "gone", "replaced"]
"""`limited` is open, with a limit of what is in flight at once; of a `paused` batch, what runs is saved."""

AT_WORK: tuple[Standing, ...] = ("open", "limited", "paused", "canceled")
"""Workers still work on such a batch."""

PACE_SPANS = 36
"""How many spans of a batch's pace Redis may still hold."""

MARKED_AT_ONCE = 1000
"""Prompts that one call marks to be canceled."""

MODEL_COST = "cost:"
"""How the fields of a batch begin that count what the results of a model cost, in micro-dollars."""

KEEP_FINISHED = 30 * 86_400
"""Seconds that a finished batch's keys live on; its folder stays."""


OnPipe = Callable[[Pipeline], Awaitable[None]]
"""Adds commands to a pipeline."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a result cost: predictions that may have been paid, and micro-dollars, None when not known.

    `unpriced` results have predictions of unknown cost.
    `kind` is its error's, `model` its prompt's: batches count some kinds apart. `last` is its last prediction.
    `unsaved` files stayed at their URLs, on `host`; `empty`: it succeeded with no output.
    `failure` is the event of one that failed.
    """

    predictions: int = 0
    cost: int | None = None
    kind: str = ""
    model: str = ""
    last: str = ""
    unsaved: int = 0
    host: str = ""
    empty: bool = False
    failure: str = ""
    unpriced: int = 0

    @classmethod
    def of(cls, result: Result) -> Self:
        """What a prompt cost, by its result."""
        return cls(
            predictions=result.predictions,
            cost=None if result.cost is None else round(result.cost * MICRO),
            kind=result.error.kind if result.error else "",
            model=result.model,
            last=result.prediction_id or "",
            unsaved=len(result.unsaved),
            host=found["host"] if result.unsaved and (found := _HOST.match(result.unsaved[0])) else "",
            empty=result.empty,
            failure=_failure(result, result.error) if result.error and result.status == "failed" else "",
            unpriced=int(result.is_unpriced),
        )


@dataclass(frozen=True, slots=True)
class Bits:
    """A bitmap as Redis stores it: prompt 0 is the highest bit of the first byte."""

    data: bytes

    @classmethod
    def of(cls, indexes: Iterable[int]) -> Self:
        """The bitmap with these bits set."""
        data = bytearray()
        for index in indexes:
            if index >> 3 >= len(data):
                data.extend(bytes((index >> 3) + 1 - len(data)))
            data[index >> 3] |= 0x80 >> (index & 7)
        return cls(bytes(data))

    def __contains__(self, index: int) -> bool:
        """Tell whether prompt `index` has its bit set."""
        byte = index >> 3
        return byte < len(self.data) and bool(self.data[byte] & (0x80 >> (index & 7)))

    def __len__(self) -> int:
        """Count the set bits."""
        return int.from_bytes(self.data).bit_count()

    def missing(self, indexes: range) -> list[int]:
        """Those of `indexes` that are not set; found at once where none is set nearby."""
        if not any(self.data[indexes.start >> 3 : (indexes.stop + 7) >> 3]):
            return list(indexes)
        return [index for index in indexes if index not in self]

    def count(self, indexes: Iterable[int]) -> int:
        """Count those of `indexes` that are set."""
        return sum(index in self for index in indexes) if self.data else 0


class Batches:
    """All batches of one Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = load_script(redis, __name__)

    async def open(self, batch: Batch) -> Batch:
        """Write the batch unless it exists; an open batch expires no more. Returns what Redis now has."""
        fields = {name: value for name, value in asdict(batch).items() if value is not None}
        fields["realm"] = fields.pop("api_host")  # its name in Redis since the first version
        fields["cancel_requested"] = int(batch.cancel_requested)
        fields |= {MODEL_COST + model: cost for model, cost in fields.pop("model_costs").items()}
        async with self._redis.pipeline(transaction=True) as pipe:
            for field, value in fields.items():
                pipe.hsetnx(keys.batch(batch.name), field, value)
            pipe.zadd(keys.BATCHES, {batch.name: batch.created_at}, nx=True)
            await pipe.execute()
        return await self.get(batch.name)

    async def reopen(self, name: str, generation: int) -> None:
        """Start a new generation: the batch is neither finished, canceled nor paused, and no longer expires."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(keys.batch(name), mapping={"generation": generation, "cancel_requested": 0})
            pipe.hdel(keys.batch(name), "finished_at", "paused")
            for key in keys.kept_with_batch(name):
                pipe.persist(key)
            await pipe.execute()

    async def find(self, name: str) -> Batch | None:
        """The batch, None when Redis knows none of that name."""
        fields = await self._redis.hgetall(keys.batch(name))
        return batch_of(fields) if fields else None

    async def get(self, name: str) -> Batch:
        """The batch; BatchNotFound when Redis knows none of that name."""
        if batch := await self.find(name):
            return batch
        known = await self.names()
        hint = f"known are: {', '.join(known[:10])}" if known else "there are none yet"
        hint += "; `python -m jobs status --all` lists also those that only folders know"
        raise BatchNotFound(f"no batch is named {name!r}; {hint}")

    async def names(self) -> list[str]:
        """Names of the batches that have not expired, newest first."""
        names = [name.decode() for name in await self._redis.zrevrange(keys.BATCHES, 0, -1)]
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.exists(keys.batch(name))
            exists = await pipe.execute()
        if expired := [name for name, there in zip(names, exists, strict=True) if not there]:
            await self._redis.zrem(keys.BATCHES, *expired)
        return [name for name, there in zip(names, exists, strict=True) if there]

    async def endings(self, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """What changes when a batch that has ended goes on or is replaced, by name; only batches that have ended."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hmget(keys.batch(name), ["finished_at", "id", "generation", "total"])
            rows = await pipe.execute()
        return {
            name: tuple((value or b"").decode() for value in row)
            for name, row in zip(names, rows, strict=True)
            if row[0] is not None
        }

    async def settled(self, name: str) -> Bits:
        """Which prompts have their result."""
        return Bits(await self._redis.get(keys.settled(name)) or b"")

    async def find_settled(self, name: str) -> Bits | None:
        """The same; None when Redis knows no batch of that name."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.exists(keys.batch(name))
            pipe.get(keys.settled(name))
            is_known, bits = await pipe.execute()
        return Bits(bits or b"") if is_known else None

    async def unsuccessful(self, name: str) -> Bits:
        """Which prompts have a result other than succeeded."""
        return Bits(await self._redis.get(keys.unsuccessful(name)) or b"")

    async def settle(
        self,
        name: str,
        index: int,
        outcome: Outcome,
        batch_id: str = "",
        spent: Spent | None = None,
        retry_count: int | None = None,
    ) -> bool:
        """Count a result, exactly once however often it is called; True when this call counted it.

        With `batch_id`, a batch of the same name and another id is left alone; with `retry_count`, a prompt that was
        retried meanwhile.
        """
        args = _settling(batch_id, index, outcome, spent or Spent(), retry_count)
        return bool(await self._script(keys=self._keys(name), args=args))

    async def settle_all(self, name: str, batch_id: str, results: Iterable[tuple[int, Result]]) -> None:
        """Count results by their prompts' indexes, as `settle` does, in one round trip."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for index, result in results:
                spent = replace(Spent.of(result), failure="")  # it happened earlier
                args = _settling(batch_id, index, result.status, spent, None)
                await self._script(keys=self._keys(name), args=args, client=pipe)
            await pipe.execute()

    async def unsettle(self, name: str, index: int, outcome: Outcome, pipe: Pipeline, kind: str = "") -> None:
        """Take back a counted result and its kind, on `pipe`, so that the prompt may be retried."""
        await self._script(keys=self._keys(name), args=["unsettle", "", index, outcome, kind], client=pipe)

    async def finish(self, name: str, at: float | None = None, also: OnPipe | None = None) -> bool:
        """Close the batch if every prompt is settled; its keys then expire after 30 days. True when this call did.

        `also` adds to the same transaction what depends on that.
        """
        at = time.time() if at is None else at
        async with self._redis.pipeline(transaction=True) as pipe:
            await self._script(keys=self._keys(name), args=["finish", "", at, KEEP_FINISHED], client=pipe)
            if also:
                await also(pipe)
            return bool((await pipe.execute())[0])

    async def set_budget(
        self, name: str, max_predictions: int | None, max_cost: int | None, max_in_flight: int | None = None
    ) -> None:
        """Limit what the batch may spend in all its life, in predictions and micro-dollars, and have in flight at once.

        None leaves a limit as it is.
        """
        limits = {"max_predictions": max_predictions, "max_cost": max_cost, "max_in_flight": max_in_flight}
        if given := {field: limit for field, limit in limits.items() if limit is not None}:
            before = await self._redis.hmget(keys.batch(name), list(given))
            await self._redis.hset(keys.batch(name), mapping=given)
            pairs = zip(given.items(), before, strict=True)
            changed = {field: limit for (field, limit), was in pairs if was is None or int(was) != limit}
            if changed:
                await log.record(self._redis, name, Event(event="limits", message=_limits_text(changed)))

    async def change_limits(self, name: str, batch_id: str, limits: Mapping[str, int | None]) -> None:
        """Change limits of the batch of that id; None lifts one."""
        args = [text for field, limit in limits.items() for text in (field, "" if limit is None else limit)]
        if await self._script(keys=self._keys(name), args=["limit", batch_id, *args]):
            await log.record(self._redis, name, Event(event="limits", message=_limits_text(limits)))

    async def pause(self, name: str, batch_id: str, reason: str | None) -> bool:
        """Let workers create nothing more for the batch, or with None let it go on; the first reason stays.

        True when that changed anything: a batch that is finished or to be canceled is not paused.
        """
        if reason is None:
            args, change = ["resume", batch_id], Event(event="resumed", message="a person resumed the batch")
        else:
            args, change = ["pause", batch_id, reason], Event(event="paused", message=reason)
        if changed := bool(await self._script(keys=self._keys(name), args=args)):
            await log.record(self._redis, name, change)
        return changed

    async def request_cancel(self, name: str) -> None:
        """Set the flag that workers obey within a poll pass."""
        if await self._script(keys=self._keys(name), args=["cancel", ""]):
            await log.record(self._redis, name, Event(event="canceled", message="a person asked for it"))

    async def cancel_prompts(self, name: str, batch_id: str, indexes: Sequence[int]) -> int:
        """Mark prompts for workers to cancel within a poll pass; returns how many of them have no result yet.

        A retry of the batch does not unmark them: they are canceled first.
        """
        marked = 0
        for start in range(0, len(indexes), MARKED_AT_ONCE):
            some = map(str, indexes[start : start + MARKED_AT_ONCE])
            marked += int(await self._script(keys=self._keys(name), args=["cancel_prompts", batch_id, *some]))
        if marked:
            message = f"a person asked for it, of {marked} prompt{'s' if marked > 1 else ''}"
            await log.record(self._redis, name, Event(event="canceled", message=message))
        return marked

    async def to_cancel(self, name: str, shard: int) -> set[int]:
        """The prompts of a shard that are marked so."""
        indexes = range(shard * SHARD_SIZE, (shard + 1) * SHARD_SIZE)
        first = indexes.start >> 3
        bits = Bits(await self._redis.getrange(keys.to_cancel(name), first, indexes.stop >> 3))
        return {index for index in indexes if index - (first << 3) in bits} if any(bits.data) else set()

    async def standing(self, name: str, batch_id: str) -> Standing:
        """Whether the batch of that id is open, paused, to be canceled, gone, or replaced by another of its name."""
        fields = ["id", "cancel_requested", "paused", "max_in_flight"]
        found, canceled, paused, limit = await self._redis.hmget(keys.batch(name), fields)
        if found is None:
            return "gone"
        if found.decode() != batch_id:
            return "replaced"
        if canceled == b"1":
            return "canceled"
        if paused is not None:
            return "paused"
        return "open" if limit is None else "limited"

    async def delete(self, name: str) -> None:
        """Forget the batch in Redis, except its shards, which the queue removes."""
        newest = int(time.time() / keys.PACE_SPAN)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(
                *self._keys(name),
                keys.runs(name),
                keys.waits(name),
                keys.events(name),
                *(keys.pace(name, newest - back) for back in range(PACE_SPANS)),
            )
            pipe.zrem(keys.BATCHES, name)
            await pipe.execute()

    async def in_flight(self, name: str) -> int:
        """How many prompts have an open attempt."""
        return int(await self._redis.hlen(keys.ledger(name)))

    async def rate_per_minute(self, name: str) -> float:
        """Results a minute, over the last minute or since the first of them."""
        now = time.time()
        newest = int(now / keys.PACE_SPAN)
        spans = range(newest - 60 // keys.PACE_SPAN, newest + 1)
        counts = [int(count or 0) for count in await self._redis.mget([keys.pace(name, span) for span in spans])]
        begun = next((span for span, count in zip(spans, counts, strict=True) if count), newest)
        return round(sum(counts) * 60 / max(now - begun * keys.PACE_SPAN, keys.PACE_SPAN), 1)

    def _keys(self, name: str) -> list[str]:
        pace = keys.pace(name, int(time.time() / keys.PACE_SPAN))
        return [*keys.kept_with_batch(name), pace, keys.failures(name)]


def _failure(result: Result, error: Failure) -> str:
    """The event of a prompt that failed."""
    message = first_line(error.message)
    return Event(event="failed", prompt=result.id, kind=error.kind, message=message, model=result.model or None).text


def _limits_text(limits: Mapping[str, int | None]) -> str:
    """New limits as the options that set them."""
    texts = []
    for field, limit in limits.items():
        option = f"--{field.replace('_', '-')}"
        value = dollars_text(limit) if limit is not None and field == "max_cost" else limit
        texts.append(f"no {option}" if limit is None else f"{option} {value}")
    return ", ".join(texts)


def _settling(batch_id: str, index: int, outcome: Outcome, spent: Spent, retry_count: int | None) -> list[str | int]:
    cost, known = ("" if value is None else value for value in (spent.cost, retry_count))
    counted = [spent.predictions, cost, spent.kind, spent.model, known, spent.last, spent.unsaved, spent.host]
    return ["settle", batch_id, index, outcome, *counted, int(spent.empty), spent.failure, log.MOST, log.KEEP]


@cache
def _batch_adapter() -> TypeAdapter[Batch]:
    """Building it takes milliseconds, so it is built on first use: `--help` needs none."""
    return TypeAdapter(Batch)


def batch_of(fields: Mapping[bytes, bytes]) -> Batch:
    """Read a batch's hash; KeyError or ValueError when it is not as it was written."""
    text = {name.decode(): value.decode() for name, value in fields.items()}
    text["api_host"] = text.pop("realm")
    model_costs = {name.removeprefix(MODEL_COST): cost for name, cost in text.items() if name.startswith(MODEL_COST)}
    try:
        return _batch_adapter().validate_python(text | {"model_costs": model_costs})
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{wrong['loc'][0]}: {wrong['msg']}") from error
