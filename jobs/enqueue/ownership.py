"""Whether folder, Redis and API host agree on whose batch it is; and what both know of its budget."""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, replace

from redis.asyncio import Redis

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.manifest import Identity, read_identity, write_identity
from jobs.budget import Budget
from jobs.config import Config
from jobs.errors import ForeignFolder, InputError
from jobs.state.batches import Batches
from jobs.wire import Batch


async def identify(folder: Folder, config: Config, redis: Redis) -> tuple[Identity | None, Batch | None]:
    """Return the batch as its folder and as Redis know it; ForeignFolder, InputError when these disagree."""
    identity, batch = read_identity(folder), await Batches(redis).find(folder.batch)
    check_identity(folder, identity, batch)
    realm = batch.realm if batch else identity.realm if identity else config.realm
    if realm != config.realm:
        raise InputError(
            f"batch {folder.batch!r} was enqueued for {realm}, not for {config.realm} (REPLICATE_BASE_URL); "
            "choose another --name"
        )
    return identity, batch


def check_identity(folder: Folder, identity: Identity | None, batch: Batch | None) -> None:
    """ForeignFolder when Redis knows the batch and the folder is not its."""
    if batch is None or (identity and identity.id == batch.id):
        return
    found = "is of another batch of that name" if identity else "has none"
    raise ForeignFolder(
        f"Redis knows a batch {folder.batch!r}, but {folder.identity.absolute()} {found}. Set BATCH_OUTPUT_DIR as it "
        f"was when the batch was enqueued, or choose another --name, or forget the batch in Redis: "
        f"python -m jobs delete {folder.batch}{'' if batch.finished_at else ' --force'}",
        folder.path,
    )


def new_identity(folder: Folder, config: Config, source: str | None) -> Identity:
    """Return what ties a new batch's folder to Redis; `source` is the file that it is begun from."""
    return Identity(folder.batch, secrets.token_hex(8), config.realm, time.time(), source=source)


def limits(identity: Identity | None, batch: Batch | None) -> Budget:
    """The budget that holds: as Redis knows it, else as the folder does."""
    known = batch or identity
    return Budget(known.max_predictions, known.max_cost, known.max_in_flight) if known else Budget()


def note_limits(folder: Folder, identity: Identity, budget: Budget, *, fsync: bool) -> Identity:
    """Write the batch's identity with its budget, which thus outlives Redis; returns it."""
    noted = replace(identity, **asdict(budget))
    if noted != identity or not folder.identity.exists():
        write_identity(folder, noted, fsync=fsync)
    return noted
