"""The one gate that every request to the API passes: it waits for its turn and heeds what the answer says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from jobs.account import Account
from jobs.errors import AccountRefused, NotSent, RateLimited, ReplicateError, Unanswered
from worker.breaker import Breaker, Outcome
from worker.model_turns import ModelTurns
from worker.ratelimit import Limiter

logger = logging.getLogger("worker.gate")
NOTICE_EVERY = 5.0


class Gate:
    """Limits, holds, pauses of account and models: shared by all workers through Redis; a log line for each change."""

    def __init__(self, limiter: Limiter, account: Account, breaker: Breaker, turns: ModelTurns) -> None:
        self._limiter = limiter
        self._account = account
        self._breaker = breaker
        self._turns = turns
        self._away = False
        self._noticed_at = 0.0
        self._held_until = 0.0

    @asynccontextmanager
    async def passing(self, bucket: str, model: str = "", prompt: str = "", order: float = 0.0) -> AsyncIterator[None]:
        """Make one request in the block: a 429 holds back everybody, a 401 or 402 pauses the account.

        For a create say model, prompt and its place in order: ModelPaused when it may not be made any more.
        """
        self._breaker.check(model, prompt)  # those that queue already must not use up what others could
        slot = await self._limiter.take(bucket, order)
        try:
            self._breaker.check(model, prompt)
            await self._turns.begin(model, prompt)
        except BaseException:
            self._limiter.take_back(bucket, slot)
            raise
        try:
            yield
        except RateLimited as error:
            await self._hold(bucket, error)
            raise
        except AccountRefused as error:
            if await self._account.pause(f"{error} (HTTP {error.status})"):
                logger.error("! everything is paused. %s Mend it, then run: python -m jobs resume", error)  # noqa: TRY400  # a sentence, no traceback
            raise
        except (NotSent, Unanswered) as error:
            await self._miss(error)
            raise
        else:
            if self._away:
                logger.info("the API answers again")
                self._away = False
                await self._account.withdraw_notice()
        finally:
            await self._limiter.answered(bucket)

    async def left(self, bucket: str, remaining: int | None) -> None:
        """Heed how many requests an answer says that the limit leaves."""
        await self._limiter.left(bucket, remaining)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Keep the models' breakers up to date until the block ends."""
        return self._breaker.running()

    async def admit(self, model: str, prompt: str) -> None:
        """Return when a create for the model may be tried; while it is paused, for one prompt (its full name) only."""
        await self._breaker.admit(model, prompt)

    async def line_up(self, model: str, prompt: str, order: float = 0.0) -> None:
        """Return when the prompt is the first of those that wait for the model's own limit: `leave` must follow."""
        await self._turns.admit(model, prompt, order)

    def leave(self, model: str, prompt: str) -> None:
        """The prompt tries no more."""
        self._turns.leave(model, prompt)

    def forgo(self, model: str, prompt: str) -> None:
        """The prompt is stopped before its end: it probes its model no more."""
        self._breaker.forgo(model, prompt)

    async def postpone(self, model: str, prompt: str) -> None:
        """Nothing was created for the prompt: it has to be admitted again."""
        await self._turns.ended(model, prompt)

    async def heard(self, model: str, prompt: str, outcome: Outcome, message: str = "") -> None:
        """Tell the model's breaker how an attempt ended, and its limit that one did."""
        await self._turns.ended(model, prompt)
        await self._breaker.heard(model, prompt, outcome, message)

    async def _hold(self, bucket: str, error: RateLimited) -> None:
        now = asyncio.get_running_loop().time()
        if now > self._held_until:
            logger.warning("! %s: held back for %.1f s, for all workers: %s", bucket, error.retry_after, error)
        self._held_until = max(self._held_until, now + error.retry_after)
        await self._limiter.hold(bucket, error.retry_after, reduced=error.reduced)

    async def _miss(self, error: ReplicateError) -> None:
        now = asyncio.get_running_loop().time()
        if not self._away:
            logger.warning("! the API does not answer, trying on: %s", error)
            self._away = True
        if now > self._noticed_at + NOTICE_EVERY:
            self._noticed_at = now
            await self._account.give_notice(f"the API does not answer: {error}")
