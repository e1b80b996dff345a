"""Whether folder, Redis and API host belong to the same batch; and the budget that folder and Redis keep."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import asdict, replace

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.manifest import Manifest, read_manifest, write_manifest
from jobs.budget import Budget
from jobs.config import Config
from jobs.errors import ForeignFolder, InputError
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches
from jobs.wire import Batch


async def read_ownership(folder: Folder, config: Config, redis: Redis) -> tuple[Manifest | None, Batch | None]:
    """Return the batch as its folder and as Redis know it; ForeignFolder, InputError when these disagree."""
    manifest = await asyncio.to_thread(read_manifest, folder)
    batch = await Batches(redis).find(folder.batch)
    check_ownership(folder, manifest, batch)
    api_host = batch.api_host if batch else manifest.api_host if manifest else config.api_host
    if api_host != config.api_host:
        raise InputError(
            f"batch {folder.batch!r} was enqueued for {api_host}, not for {config.api_host} (REPLICATE_BASE_URL); "
            "choose another --name"
        )
    return manifest, batch


def check_ownership(folder: Folder, manifest: Manifest | None, batch: Batch | None) -> None:
    """ForeignFolder when Redis knows the batch and the folder is another's."""
    if batch is None or (manifest and manifest.id == batch.id):
        return
    found = "belongs to another batch of that name" if manifest else "is missing"
    raise ForeignFolder(
        f"Redis knows a batch {folder.batch!r}, but {folder.manifest.absolute()} {found}. Set BATCH_OUTPUT_DIR as it "
        f"was when the batch was enqueued, or choose another --name, or forget the batch in Redis: "
        f"python -m jobs delete {folder.batch}{'' if batch.finished_at else ' --force'}",
        folder.path,
    )


def new_manifest(folder: Folder, config: Config, source: str | None) -> Manifest:
    """Return what ties a new batch's folder to Redis; `source` is the file that it is enqueued from."""
    return Manifest(folder.batch, secrets.token_hex(8), config.api_host, time.time(), source=source)


def known_limits(manifest: Manifest | None, batch: Batch | None) -> Budget:
    """The batch's budget: as Redis has it, else as the folder has it."""
    known = batch or manifest
    return Budget(known.max_predictions, known.max_cost, known.max_in_flight) if known else Budget()


def save_limits(
    folder: Folder, manifest: Manifest, budget: Budget, *, fsync: bool, keep_uploads: bool = False
) -> Manifest:
    """Write the batch's manifest with its budget, which then survives a loss of Redis; returns it."""
    noted = replace(manifest, **asdict(budget), keep_uploads=manifest.keep_uploads or keep_uploads)
    if noted != manifest or not folder.manifest.exists():
        write_manifest(folder, noted, fsync=fsync)
    return noted
