"""Serving the files of batches: only what a record names, and nothing that a browser would run."""

from __future__ import annotations

import asyncio
import mimetypes
import stat
from pathlib import Path, PurePosixPath

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from jobs.batch_folder.folder import RECORD, Folder
from jobs.dashboard.pages import Dashboard
from jobs.errors import StorageError
from jobs.names import is_prompt_id

SHOWN = ("image/", "video/", "audio/", "text/plain", "application/json", "application/pdf")
"""Media types that a browser may show in the page; anything else is downloaded."""

# Scripts of an SVG do not run in it, nor anything else that a model or its author may have put into a file.
SANDBOX = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src 'self'; sandbox"


async def show_file(request: Request) -> Response:
    """Answer with an output file of a prompt."""
    dashboard: Dashboard = request.app.state.dashboard
    folder = await batch_folder(dashboard, request.path_params["batch"])
    path = await asyncio.to_thread(output_path, folder, request.path_params["path"])
    media_type, _ = mimetypes.guess_type(path.name)
    media_type = media_type if media_type and media_type.startswith(SHOWN) else None
    if media_type and media_type.startswith(("text/", "application/json")):
        media_type = "text/plain; charset=utf-8"
    wants_copy = media_type is None or "download" in request.query_params
    return FileResponse(
        path,
        headers={"cache-control": lifetime(request), "content-security-policy": SANDBOX},
        media_type=media_type or "application/octet-stream",
        filename=f"{path.parent.name}-{path.name}" if wants_copy else None,
    )


def lifetime(request: Request) -> str:
    """How long a browser may keep what it asked for: for good, if the address changes with the file."""
    return "private, max-age=31536000, immutable" if "v" in request.query_params else "no-cache"


async def batch_folder(dashboard: Dashboard, batch: str) -> Folder:
    """The folder of a batch; 404 when there is none of that name."""
    folder = Folder(dashboard.config.output_dir, batch)
    if not is_prompt_id(batch) or not await asyncio.to_thread(folder.manifest.is_file):
        raise HTTPException(404, f"There is no batch {batch!r} in {dashboard.config.output_dir.absolute()}.")
    return folder


def output_path(folder: Folder, name: str) -> Path:
    """The path of a file below its prompt's folder; 404 unless it is a regular file that the prompt's record names."""
    path = PurePosixPath(name)
    missing = HTTPException(404, f"{name!r} is no file of batch {folder.batch!r}.")
    if len(path.parts) < 2 or ".." in path.parts or path.is_absolute() or not is_prompt_id(path.parts[0]):
        raise missing
    try:
        record = folder.read_record(path.parts[0])
    except StorageError:
        raise missing from None
    if record is None or str(path) not in {file.path for file in record.files} | documents(record.id):
        raise missing
    whole = folder.path / path
    try:
        is_file = stat.S_ISREG(whole.lstat().st_mode)
    except OSError:
        raise missing from None
    if not is_file:
        raise missing
    return whole


def documents(prompt_id: str) -> set[str]:
    """The files of a prompt that its record does not list."""
    return {f"{prompt_id}/{name}" for name in ("output.txt", "output.json", RECORD)}
