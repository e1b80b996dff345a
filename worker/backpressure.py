"""Back-pressure: creates wait while outputs pile up or cannot be written."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from worker.context import Context

logger = logging.getLogger(__name__)


class BackPressure:
    """Watches this worker's backlog and folders, and holds creates for all workers of the account."""

    def __init__(self, worker: Context) -> None:
        self._worker = worker
        self._held = False
        self._reported = set[Path]()

    async def check(self) -> None:
        """Hold creates if necessary; log when a hold begins and ends."""
        worker, backlog = self._worker, self._worker.outputs.backlog
        backlog.look(asyncio.get_running_loop().time())
        reason = backlog.why_hold(worker.poller.in_flight, time.time())
        if bool(reason) != self._held:
            self._held = bool(reason)
            logger.warning("! %s", reason) if reason else logger.info("outputs are saved in time again")
        if reason := worker.folders.disk_trouble() or reason:
            await worker.account.report_trouble(reason, worker.timing.hold)
        await worker.folders.look()
        self._report_folders()

    def _report_folders(self) -> None:
        """Report the folders that cannot be written to `status`; only the prompts of their own batch wait."""
        waits, troubles = self._worker.waits, self._worker.folders.own_troubles()
        for path in self._reported - troubles.keys():
            waits.note(path.name, "")
        for path, trouble in troubles.items():
            waits.note(path.name, trouble)
        self._reported = set(troubles)
