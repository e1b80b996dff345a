"""What a worker tells the others in Redis: that it is up, and what it does."""

from __future__ import annotations

import os
import socket
import time

from jobs.account.live_workers import WorkerReport, remove_worker, send_heartbeat
from worker.context import Context
from worker.heartbeat import SILENT
from worker.reports.pace import Pace, requests_made


class Presence:
    """One worker's entry among those that are up."""

    def __init__(self, worker: Context) -> None:
        self._worker, self._since = worker, time.time()
        self._pace = Pace()
        self._pace.look(time.monotonic(), requests_made())

    async def announce(self) -> None:
        """Say that it is up, and what it does."""
        worker = self._worker
        await send_heartbeat(worker.redis, worker.config.api_host, worker.leases.owner, SILENT, self._report())

    async def withdraw(self) -> None:
        """Say that it ends."""
        await remove_worker(self._worker.redis, self._worker.config.api_host, self._worker.leases.owner)

    def _report(self) -> WorkerReport:
        worker, requests = self._worker, self._pace.look(time.monotonic(), requests_made())
        return WorkerReport(
            host=socket.gethostname(),
            pid=os.getpid(),
            since=self._since,
            in_flight=worker.poller.in_flight,
            downloads=worker.outputs.downloads,
            unsaved=len(worker.outputs.backlog),
            shards=len(worker.job_slots.running),
            creates=requests.get("create", 0),
            reads=requests.get("read", 0),
        )
