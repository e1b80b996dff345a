"""Thumbnails of pictures: made once, beside the batch, in processes that a picture cannot hold for long."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import multiprocessing
import os
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Literal

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from jobs.dashboard.gallery.files import batch_folder, lifetime, output_path
from jobs.dashboard.gallery.thumbnail import make_thumbnail, prepare
from jobs.dashboard.pages import Dashboard

logger = logging.getLogger(__name__)

FOLDER = ".thumbnails"
"""Where in a batch's folder they are: `<prompt id>/<file>.webp`."""

SECONDS = 20.0
"""After which a picture that is still being decoded is given up, and its process killed."""

PROCESSES = 2
MOST_REMEMBERED = 10_000
"""Pictures without a thumbnail that are not tried again."""

MOST_SPARE = 5_000
"""Thumbnails in the temporary directory: about 100 megabytes."""

LONGEST_QUEUE = 400
"""Thumbnails that wait; whoever scrolls past more sees them when the page is shown again."""


class Thumbnails:
    """Makes each thumbnail once, however many pages ask."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._pool: ProcessPoolExecutor | None = None
        self._slots = asyncio.Semaphore(PROCESSES)
        self._making: dict[Path, asyncio.Task[Path | Literal[False] | None]] = {}
        self._failed: set[tuple[Path, int]] = set()
        self._making_spare = threading.Lock()
        self._spare: tempfile.TemporaryDirectory[str] | None = None
        self._spared: dict[Path, Path] = {}

    async def path(self, source: Path, target: Path) -> Path | None:
        """The thumbnail of a picture, made if need be; None when none can be made.

        Where the batch's folder takes none, it is in a temporary directory.
        """
        changed_at = await asyncio.to_thread(_changed_at, source)
        for place in filter(None, (target, self._spared.get(target))):
            if await asyncio.to_thread(_changed_at, place) >= changed_at:
                return place
        mark = (source, changed_at)
        if mark in self._failed or len(self._making) >= LONGEST_QUEUE:
            return None
        task = self._making.get(target)
        if task is None:
            task = self._making[target] = asyncio.create_task(self._make(source, target))
            task.add_done_callback(lambda _: self._making.pop(target, None))
        made = await asyncio.shield(task)
        if made is False and len(self._failed) < MOST_REMEMBERED:
            self._failed.add(mark)
        return made or None

    def close(self) -> None:
        """Stop the processes."""
        self._stop(self._pool)
        if self._spare:
            self._spare.cleanup()

    async def _make(self, source: Path, target: Path) -> Path | Literal[False] | None:
        """Where it was made, False if it cannot be; None when its process ended because of another picture."""
        places = [target, *await asyncio.to_thread(self._spare_place, target)]
        async with self._slots:
            pool = self._pool = self._pool or _new_pool()
            try:
                async with asyncio.timeout(self._seconds):
                    loop = asyncio.get_running_loop()
                    made = await loop.run_in_executor(pool, make_thumbnail, source, places)
            except BrokenProcessPool:
                self._stop(pool)
                return None
            except TimeoutError:
                logger.warning("no thumbnail of %s: it took %g s", source, self._seconds)
                self._stop(pool)
                return False
            if made and made != target:
                self._spared[target] = made
            return made or False

    def _spare_place(self, target: Path) -> list[Path]:
        """Where a thumbnail may be that its batch's folder does not take."""
        if target not in self._spared and len(self._spared) >= MOST_SPARE:
            return []
        with self._making_spare:
            self._spare = self._spare or tempfile.TemporaryDirectory(prefix="replicate-batch-")
        return [Path(self._spare.name) / f"{hashlib.sha256(os.fsencode(target)).hexdigest()}.webp"]

    def _stop(self, pool: ProcessPoolExecutor | None) -> None:
        if pool is None:
            return
        if pool is self._pool:
            self._pool = None
        processes = list((pool._processes or {}).values())  # noqa: SLF001 - kill_workers came with Python 3.14
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()


async def show_thumbnail(request: Request) -> Response:
    """Answer with the thumbnail of an output; 404 when there is none."""
    dashboard: Dashboard = request.app.state.dashboard
    thumbnails: Thumbnails = request.app.state.thumbnails
    folder = await batch_folder(dashboard, request.path_params["batch"])
    source = await asyncio.to_thread(output_path, folder, request.path_params["path"])
    target = folder.path / FOLDER / source.parent.relative_to(folder.path) / f"{source.name}.webp"
    if found := await thumbnails.path(source, target):
        return FileResponse(found, headers={"cache-control": lifetime(request)}, media_type="image/webp")
    raise HTTPException(404, "There is no thumbnail of this file.")


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


def _new_pool() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(PROCESSES, mp_context=context, initializer=prepare)
