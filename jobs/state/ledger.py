"""The pay-once ledger: what each prompt's open attempt is, and which prediction serves which prompt.

An attempt goes: intend → POST → record; or withdraw, when the POST surely had no effect; or, when nobody knows,
a search that records the prediction it finds, or intends a replacement. Close ends an attempt before the next.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Literal

from jobs.errors import OverBudget
from jobs.redis_client import keys
from jobs.redis_client.client import load_script
from jobs.redis_client.resilience import Redis
from jobs.state.claims import CLAIM_TTL

Ending = Literal["attempt", "refused", "unknown", "output_lost", "aborted"]


class Overtaken(Exception):
    """Another worker continued or settled this prompt, or its batch is gone: start over."""


class Served(Overtaken):
    """A search gave this prompt the prediction of an equal one, which may take the one created here."""


class Claimed(Exception):
    """The prediction serves another prompt already."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A prompt's attempts so far. `nonce` is "" between attempts; `at` is Redis's time of the last intent.

    `cost` is that of ended attempts, `reserved` the open one's price, in micro-dollars; `aborted` ones count apart.
    """

    attempt: int = 0
    nonce: str = ""
    at: float = 0
    prediction_id: str | None = None
    prediction_ids: tuple[str, ...] = ()
    unknown_creates: int = 0
    aborted: int = 0
    cost: int = 0
    reserved: int = 0

    @property
    def ambiguous(self) -> bool:
        """An intent without an id: a prediction may have been created, or not."""
        return bool(self.nonce) and self.prediction_id is None


@dataclass(frozen=True, slots=True)
class Ledger:
    """One prompt's entry in the ledger of its batch. Each change raises Overtaken when the nonce is not ours."""

    redis: Redis
    api_host: str
    batch: str
    batch_id: str
    index: int

    async def read(self) -> Entry:
        """The prompt's entry; an empty one when no attempt was ever intended."""
        text = await self.redis.hget(keys.ledger(self.batch), str(self.index))
        return entry_of(text)

    async def afford(self, price: int | None) -> None:
        """Raise OverBudget when an intent at that price would be refused now."""
        await self._change("afford", "", "" if price is None else price)

    async def intend(self, entry: Entry, price: int | None = 0, *, replace: bool = False) -> Entry:
        """Note that an attempt is about to be created, before the POST, and reserve its price (None: not known).

        `replace`: for one that cannot be found. OverBudget when the batch may not spend that.
        """
        mode = "replace" if replace else "attempt"
        return await self._change("intend", entry.nonce, secrets.token_hex(8), mode, "" if price is None else price)

    async def record(self, entry: Entry, prediction_id: str) -> Entry:
        """Note the prediction of an intent and claim it; raises Claimed when it serves another prompt, Served."""
        claimant = f"{self.batch}:{self.index}"
        claim = keys.claim(self.api_host, prediction_id)
        return await self._change("record", entry.nonce, prediction_id, claimant, CLAIM_TTL, claim=claim)

    async def withdraw(self, entry: Entry) -> Entry:
        """Take an intent back: its POST surely created nothing, so no attempt is used."""
        return await self._change("withdraw", entry.nonce)

    async def close(self, entry: Entry, cost: int = 0, how: Ending = "attempt", model: str = "") -> Entry:
        """End an attempt that is to be followed by another; its cost (micro-dollars) replaces what it reserved.

        `refused`: nothing was created; `unknown`: nobody knows; `aborted`: it is free and counts as no attempt.
        """
        return await self._change("close", entry.nonce, cost, how, model)

    async def confirm(self, entry: Entry) -> None:
        """Raise Overtaken unless the entry is still current: before the prompt is settled."""
        if await self.read() != entry:
            raise Overtaken(f"prompt {self.index} of {self.batch}: another worker continued it")

    async def age(self, entry: Entry) -> float:
        """Seconds since the entry's intent, by Redis's clock."""
        seconds, micros = await self.redis.time()
        return float(seconds + micros / 1e6 - entry.at)

    async def _change(
        self,
        op: Literal["afford", "intend", "record", "withdraw", "close"],
        nonce: str,
        *args: str | int,
        claim: str = "",
    ) -> Entry:
        script = load_script(self.redis, __name__)
        names = [keys.ledger(self.batch), keys.settled(self.batch), keys.batch(self.batch), *([claim] if claim else [])]
        verdict, text = await script(keys=names, args=[op, self.batch_id, self.index, nonce, *args])
        if verdict == b"claimed":
            raise Claimed(f"prediction {args[0]} serves another prompt")
        if verdict in (b"short", b"spent", b"unpriced"):
            raise OverBudget(verdict.decode())
        if verdict == b"served":
            raise Served(f"prompt {self.index} of {self.batch} has another prediction than {args[0]}")
        if verdict != b"ok":
            raise Overtaken(f"prompt {self.index} of {self.batch}: {verdict.decode()}")
        return entry_of(text)


def entry_of(text: bytes | None) -> Entry:
    """Read a field of the ledger; KeyError or ValueError when it is not as it was written."""
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
        aborted=int(fields["aborted"]),
        cost=int(fields["cost"]),
        reserved=int(fields["reserved"]),
    )
