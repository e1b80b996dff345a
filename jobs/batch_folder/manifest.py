"""batch.json: the id that ties a folder to its batch, and the limits, which survive a loss of Redis."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from jobs.batch_folder.atomic_files import replacing
from jobs.batch_folder.folder import Folder
from jobs.errors import ForeignFolder

API_HOST = "realm"
"""What the file calls it since the first version."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of batch.json: `id` is random and ties the folder to Redis; `created_at` is in Unix seconds.

    `max_cost` is in micro-dollars; `source` is the path of the file that the batch was first enqueued from, None for
    standard input. `keep_uploads`: what workers upload for it is not deleted when it ends.
    """

    batch: str
    id: str
    api_host: str
    created_at: float
    max_predictions: int | None = None
    max_cost: int | None = None
    max_in_flight: int | None = None
    source: str | None = None
    keep_uploads: bool = False


def read_manifest(folder: Folder) -> Manifest | None:
    """Return the manifest, None for a folder that is missing or empty; ForeignFolder for another batch's."""
    try:
        written = json.loads(folder.manifest.read_bytes())
        manifest = Manifest(api_host=written.pop(API_HOST), **written)
    except FileNotFoundError:
        _refuse_other_content(folder)
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ForeignFolder(f"{folder.manifest} cannot be read as a batch's: {error}", folder.manifest) from None
    if manifest.batch != folder.batch:
        raise ForeignFolder(
            f"{folder.path} is the folder of batch {manifest.batch!r}, not of {folder.batch!r}; choose another --name",
            folder.path,
        )
    return manifest


def _refuse_other_content(folder: Folder) -> None:
    if folder.path.is_dir() and any(not path.name.startswith(".") for path in folder.path.iterdir()):
        raise ForeignFolder(
            f"{folder.path} has no batch.json: it is not a batch's folder. Choose another --name, or move it away",
            folder.path,
        )


def write_manifest(folder: Folder, manifest: Manifest, *, fsync: bool) -> None:
    """Write batch.json, which makes the folder the batch's."""
    with replacing(folder.manifest, fsync=fsync) as file:
        fields = {API_HOST if name == "api_host" else name: value for name, value in asdict(manifest).items()}
        file.write(json.dumps(fields, indent=2).encode() + b"\n")
