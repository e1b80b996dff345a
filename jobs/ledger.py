"""The pay-once ledger: what each prompt's open attempt is, and which prediction serves which prompt.

An attempt goes: intend → POST → record; or withdraw, when the POST surely had no effect; or, when nobody knows,
a search that records the prediction it finds, or intends anew as a replacement. Close ends an attempt before the next.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Literal

from redis.asyncio import Redis

from jobs import keys
from jobs.connection import load_script

CLAIM_TTL = 7200
"""Seconds that a prediction stays claimed: longer than Replicate can show it with its input."""


class Overtaken(Exception):
    """Somebody else moved this prompt on, settled it, or its batch is gone: look again from the start."""


class Claimed(Exception):
    """The prediction serves another prompt already."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A prompt's attempts so far. `nonce` is "" between attempts; `at` is Redis's time of the last intent."""

    attempt: int = 0
    nonce: str = ""
    at: float = 0
    prediction_id: str | None = None
    prediction_ids: tuple[str, ...] = ()
    unknown_creates: int = 0

    @property
    def ambiguous(self) -> bool:
        """An intent without an id: a prediction may have been created, or not."""
        return bool(self.nonce) and self.prediction_id is None


@dataclass(frozen=True, slots=True)
class Ledger:
    """One prompt's place in the ledger of its batch. Each change raises Overtaken when the nonce is not ours."""

    redis: Redis
    realm: str
    batch: str
    batch_id: str
    index: int

    async def read(self) -> Entry:
        """The prompt's entry; an empty one when no attempt was ever intended."""
        text = await self.redis.hget(keys.ledger(self.batch), str(self.index))  # type: ignore[misc]  # typed for both clients
        return _decode(text)

    async def intend(self, entry: Entry, *, replace: bool = False) -> Entry:
        """Note that an attempt is about to be created, before the POST; `replace`: for one that cannot be found."""
        nonce = secrets.token_hex(8)
        return await self._change("intend", entry.nonce, nonce, "replace" if replace else "attempt")

    async def record(self, entry: Entry, prediction_id: str) -> Entry:
        """Note the prediction of an intent and claim it; raises Claimed when it serves another prompt."""
        claimant = f"{self.batch}:{self.index}"
        claim = keys.claim(self.realm, prediction_id)
        return await self._change("record", entry.nonce, prediction_id, claimant, CLAIM_TTL, claim=claim)

    async def withdraw(self, entry: Entry) -> Entry:
        """Take an intent back: its POST surely created nothing, so no attempt is used."""
        return await self._change("withdraw", entry.nonce)

    async def close(self, entry: Entry) -> Entry:
        """End an attempt that is to be followed by another."""
        return await self._change("close", entry.nonce)

    async def confirm(self, entry: Entry) -> None:
        """Raise Overtaken unless the entry is still the prompt's: before a result is made of it."""
        if (await self.read()).nonce != entry.nonce:
            raise Overtaken(f"prompt {self.index} of {self.batch}: another worker goes on with it")

    async def unclaimed(self, prediction_ids: list[str]) -> list[str]:
        """Those predictions that serve no prompt, in the same order."""
        if not prediction_ids:
            return []
        claims = await self.redis.mget([keys.claim(self.realm, id_) for id_ in prediction_ids])
        return [id_ for id_, claimant in zip(prediction_ids, claims, strict=True) if claimant is None]

    async def disown(self, prediction_id: str) -> bool:
        """Claim an orphan for nobody, so that it may be canceled; False when it serves a prompt."""
        return bool(await self.redis.set(keys.claim(self.realm, prediction_id), "nobody", nx=True, ex=CLAIM_TTL))

    async def age(self, entry: Entry) -> float:
        """Seconds since the entry's intent, by Redis's clock."""
        seconds, micros = await self.redis.time()
        return float(seconds + micros / 1e6 - entry.at)

    async def _change(
        self, op: Literal["intend", "record", "withdraw", "close"], nonce: str, *args: str | int, claim: str = ""
    ) -> Entry:
        script = load_script(self.redis, "jobs.ledger")
        names = [keys.ledger(self.batch), keys.settled(self.batch), keys.batch(self.batch), claim or "-"]
        verdict, text = await script(keys=names, args=[op, self.batch_id, self.index, nonce, *args])
        if verdict == b"claimed":
            raise Claimed(f"prediction {args[0]} serves another prompt")
        if verdict != b"ok":
            raise Overtaken(f"prompt {self.index} of {self.batch}: {verdict.decode()}")
        return _decode(text)


def _decode(text: bytes | None) -> Entry:
    if not text:
        return Entry()
    fields = json.loads(text)
    return Entry(
        attempt=int(fields["attempt"]),
        nonce=fields["nonce"],
        at=float(fields.get("at", 0)),
        prediction_id=fields.get("prediction_id"),
        prediction_ids=tuple(fields["prediction_ids"].split()),
        unknown_creates=int(fields["unknown_creates"]),
    )
