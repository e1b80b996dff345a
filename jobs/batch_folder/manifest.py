"""batch.json: whose folder it is, and the limits that hold again after Redis lost the batch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from jobs.batch_folder.atomic_files import replacing
from jobs.batch_folder.folder import Folder
from jobs.errors import ForeignFolder


@dataclass(frozen=True, slots=True)
class Identity:
    """What batch.json says: `id` is random and ties the folder to Redis; `created_at` is in Unix seconds.

    The limits stand here too, `max_cost` in micro-dollars: they hold again after Redis lost the batch. `source` is the
    path of the file that the batch was begun from; None for standard input.
    """

    batch: str
    id: str
    realm: str
    created_at: float
    max_predictions: int | None = None
    max_cost: int | None = None
    max_in_flight: int | None = None
    source: str | None = None


def read_identity(folder: Folder) -> Identity | None:
    """Return whose folder it is, None for one that is not there or empty; ForeignFolder if not this batch's."""
    try:
        identity = Identity(**json.loads(folder.identity.read_bytes()))
    except FileNotFoundError:
        _refuse_other_content(folder)
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ForeignFolder(f"{folder.identity} cannot be read as a batch's: {error}", folder.identity) from None
    if identity.batch != folder.batch:
        raise ForeignFolder(
            f"{folder.path} is the folder of batch {identity.batch!r}, not of {folder.batch!r}; choose another --name",
            folder.path,
        )
    return identity


def _refuse_other_content(folder: Folder) -> None:
    if folder.path.is_dir() and any(not path.name.startswith(".") for path in folder.path.iterdir()):
        raise ForeignFolder(
            f"{folder.path} has no batch.json: it is not a batch's folder. Choose another --name, or move it away",
            folder.path,
        )


def write_identity(folder: Folder, identity: Identity, *, fsync: bool) -> None:
    """Make the folder the batch's."""
    with replacing(folder.identity, fsync=fsync) as file:
        file.write(json.dumps(asdict(identity), indent=2).encode() + b"\n")
