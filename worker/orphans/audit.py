"""The audit of the account's predictions: which of them no claim, ledger or record on disk knows.

A prediction is ours if its input equals a prompt of one of our batches.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from jobs.account.account import Account
from jobs.config import Config
from jobs.errors import AccountRefused, Blocked, ConfigError, InputError, RateLimited, ReplicateError, Unanswered
from jobs.redis_client.client import opened
from jobs.redis_client.resilience import Redis
from jobs.replicate_api.client import api_client
from jobs.replicate_api.predictions import CREATE_TIMEOUT, Prediction, Replicate
from jobs.state.batches import Batches
from jobs.state.claims import NOBODY, Claims
from jobs.state.snapshot import Snapshot, take_snapshot
from jobs.state.uploads import upload_ids
from jobs.wire import as_local, timestamp
from worker.limits.rate_limiter import RateLimiter
from worker.limits.request_gate import RequestGate
from worker.limits.token_check import TokenCheck
from worker.orphans.matching import Match, find_matches, find_recorded
from worker.polling.list_pass import list_pages

YOUNG = 90.0
"""A younger prediction, in seconds, may belong to a create whose answer is not recorded yet."""

TRIES = 3

Whose = Literal["ours", "looked_for", "foreign", "unknown"]


class Orphan(BaseModel):
    """A prediction that belongs to no prompt; `age` in seconds, `prompt` the `<batch>/<id>` of one with an equal input.

    `looked_for`: a prompt whose create was not answered may still adopt it. `unknown`: its input was removed.
    """

    id: str
    whose: Whose
    model: str | None
    status: str
    running: bool
    created_at: str | None
    age: float | None
    prompt: str | None = None
    canceled: bool = False
    error: str | None = None


class OrphanList(BaseModel):
    """What was found among `seen` predictions since a time; `too_young` ones were skipped."""

    since: str
    seen: int
    too_young: int
    orphans: list[Orphan]

    @property
    def left_running(self) -> bool:
        """Whether one of ours still runs, and costs money."""
        return any(one.whose == "ours" and one.running and not one.canceled for one in self.orphans)


@dataclass(frozen=True, slots=True)
class OrphanAudit:
    """Compares the account's list with claims, ledgers and records; only `cancel` changes anything."""

    config: Config
    redis: Redis
    replicate: Replicate
    gate: RequestGate

    async def find(self, seconds: float) -> OrphanList:
        """List the orphans of the last `seconds`; ReplicateError, RedisError, StorageError."""
        since = time.time() - seconds
        seen, found = await self._list_unclaimed(since)
        snapshots = await self._take_snapshots()
        known = _in_ledgers(snapshots.values())
        known |= await asyncio.to_thread(find_recorded, self.config, since, found.keys())
        left = [prediction for prediction in found.values() if prediction.id not in known]
        old = [prediction for prediction in left if self._age(prediction) >= self._young]

        def is_open(batch: str, index: int) -> bool:
            entry = snapshots[batch].ledger.get(index) if batch in snapshots else None
            return entry is not None and entry.ambiguous

        uploads = {name: await upload_ids(self.redis, name) for name in snapshots}
        prompts = await asyncio.to_thread(find_matches, self.config, old, is_open, uploads)
        orphans = [self._orphan(prediction, prompts.get(prediction.id)) for prediction in old]
        return OrphanList(since=timestamp(since), seen=seen, too_young=len(left) - len(old), orphans=orphans)

    async def cancel(self, found: OrphanList) -> None:
        """Cancel those of ours that still run, each disowned first, and note each outcome."""
        for orphan in found.orphans:
            if orphan.whose == "ours" and orphan.running:
                if await self._claims.disown(orphan.id):
                    await self._cancel(orphan)
                else:
                    orphan.whose = "looked_for"  # adopted meanwhile

    async def _cancel(self, orphan: Orphan) -> None:
        try:
            async with self.gate.request("read"):
                await self.replicate.cancel(orphan.id)
        except AccountRefused:
            raise
        except ReplicateError as error:
            orphan.error = str(error)
        else:
            orphan.canceled = True

    @property
    def _young(self) -> float:
        """YOUNG, or longer in blocking mode, where answers take longer."""
        return max(YOUNG, CREATE_TIMEOUT * 2 + self.config.prefer_wait)

    def _age(self, prediction: Prediction) -> float:
        """Seconds by the API's clock; one without a time is young."""
        created = prediction.time("created_at")
        return time.time() + self.replicate.clock_offset - created if created else 0.0

    def _orphan(self, prediction: Prediction, match: Match | None) -> Orphan:
        shown = isinstance(prediction.raw.get("input"), dict) and not prediction.raw.get("data_removed")
        whose: Whose = "foreign" if shown else "unknown"
        if match:
            whose = "looked_for" if match.open else "ours"
        return Orphan(
            id=prediction.id,
            whose=whose,
            model=prediction.text("model") or prediction.text("deployment") or prediction.text("version"),
            status=prediction.status,
            running=not prediction.terminal,
            created_at=prediction.text("created_at"),
            age=round(self._age(prediction), 1),
            prompt=match.name if match else None,
        )

    @property
    def _claims(self) -> Claims:
        return Claims(self.redis, self.config.api_host)

    async def _list_unclaimed(self, since: float) -> tuple[int, dict[str, Prediction]]:
        """How many predictions there are, and those that no prompt has claimed; a failed read is retried."""
        for tries in range(1, TRIES + 1):
            try:
                return await self._read_list(since)
            except (RateLimited, Blocked, Unanswered):
                if tries == TRIES:
                    raise
                await asyncio.sleep(1)
        raise AssertionError

    async def _read_list(self, since: float) -> tuple[int, dict[str, Prediction]]:
        seen, found = 0, dict[str, Prediction]()
        async for page in list_pages(self.replicate, self.gate, since):
            seen += len(page.predictions)
            claims = await self._claims.of([prediction.id for prediction in page.predictions])
            for prediction, claimant in zip(page.predictions, claims, strict=True):
                if claimant is None or (claimant == NOBODY and not prediction.terminal):
                    found[prediction.id] = prediction
        return seen, found

    async def _take_snapshots(self) -> dict[str, Snapshot]:
        """Take a snapshot of each batch in Redis."""
        names = await Batches(self.redis).names()
        try:
            taken = [(name, await take_snapshot(self.redis, name)) for name in names]
        except (KeyError, ValueError) as error:
            raise InputError("what Redis has of a batch is not readable; `python -m jobs verify BATCH`") from error
        return {name: snapshot for name, snapshot in taken if snapshot}


def _in_ledgers(snapshots: Iterable[Snapshot]) -> set[str]:
    entries = (entry for snapshot in snapshots for entry in snapshot.ledger.values())
    return {prediction_id for entry in entries for prediction_id in entry.prediction_ids}


@asynccontextmanager
async def open_audit(config: Config) -> AsyncIterator[OrphanAudit]:
    """Open what an audit needs; ConfigError, RedisUnreachable.

    A token that is refused here does not pause the account: the workers may have another.
    """
    limits = {"create": config.creates_per_minute, "read": config.reads_per_minute}
    async with (
        opened(config) as redis,
        RateLimiter(redis, config.api_host, limits) as limiter,
        api_client(config) as client,
    ):
        replicate = Replicate(client, config)
        try:
            await replicate.account()
        except AccountRefused as error:
            raise ConfigError(f"{error}. Put a valid token in REPLICATE_API_TOKEN or .env") from error
        account = Account(redis, config.api_host)
        token = TokenCheck(limiter, account, replicate.account)
        gate = RequestGate(limiter, account, token)
        yield OrphanAudit(config, redis, replicate, gate)


def orphan_lines(found: OrphanList) -> Iterator[str]:
    """A line for each prediction, then what can be done, and a last line with the counts."""
    says = {
        "ours": "ours",
        "looked_for": "being looked for",
        "foreign": "not ours",
        "unknown": "of unknown origin",
    }
    for one in found.orphans:
        age = f"{one.age / 60:.0f} min" if one.age is not None else "?"
        like = f", like {one.prompt}" if one.prompt else ""
        state = "canceled now" if one.canceled else one.status
        failed = f"; it could not be canceled: {one.error}" if one.error else ""
        yield f"{one.id}  {one.model or '?'}  {state}, {age} old: {says[one.whose]}{like}{failed}"
    if found.left_running:
        yield "Those of ours that still run cost money for nothing: --cancel ends them."
    young = f", {found.too_young} too young to tell" if found.too_young else ""
    yield f"{found.seen} predictions since {as_local(found.since)}: {len(found.orphans)} that nothing here knows{young}"
