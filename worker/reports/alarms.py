"""Alarms: what stops a whole account, such as pauses, low credit, outputs that are not saved in time."""

from __future__ import annotations

from jobs.notify.conditions import BY_HAND, backlog_event, paused_event
from worker.context import Context

LOW_CREDIT = "low_credit"


class Alarms:
    """Looks at what all workers report in Redis; each worker may, as an event is posted once for an episode."""

    def __init__(self, worker: Context) -> None:
        self._worker = worker

    async def check(self) -> None:
        """Post an event for what is wrong now."""
        notifier = self._worker.notifier
        if notifier.wants("paused"):
            await self._check_pause()
        if notifier.wants("backlog") and (reason := await self._worker.account.trouble()):
            await notifier.post(backlog_event(await notifier.since("backlog"), reason))

    async def _check_pause(self) -> None:
        account, notifier = self._worker.account, self._worker.notifier
        reason, by, person = await account.read_pause()
        by = by or BY_HAND
        if not reason:
            by, reason = LOW_CREDIT, await account.low_credit()
        if reason:
            await notifier.post(paused_event(await notifier.since(f"paused:{by}"), by, reason, person))
