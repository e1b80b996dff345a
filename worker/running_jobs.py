"""The arq jobs that run in this process, each of them once at a time.

arq starts a job a second time when its in-progress mark expired while the process stalled. Two runs at once would end
in a KeyError of arq, which drops the job from the queue.
"""

from __future__ import annotations

import asyncio
from typing import Any

from worker.leases import Leases


class RunningJobs:
    """The jobs of one process, those that wait for their lease included."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._runs: dict[str, asyncio.Task[Any]] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, job: str) -> bool:
        return job in self._runs

    async def single_flight(self, job: str) -> None:
        """Wait until no other run of the job goes on, even when cancelled; then this task is its run."""
        run = asyncio.current_task()
        while (other := self._runs.get(job)) and not other.done():
            try:
                await asyncio.wait([other], timeout=self._leases.seconds / 5)
                await self._leases.keep_from_others(job)
            except asyncio.CancelledError:
                self._leases.absorb_cancel()
                other.cancel()  # arq knows only the later run, and cancels no other
        if run:
            self._runs[job] = run
            run.add_done_callback(lambda _: self._forget(job, run))

    def _forget(self, job: str, run: asyncio.Task[Any]) -> None:
        if self._runs.get(job) is run:
            del self._runs[job]
