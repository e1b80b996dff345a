"""Batches that Redis does not know any more, by their folders."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from jobs.batch_folder.atomic_files import storing
from jobs.batch_folder.folder import MANIFEST, Folder
from jobs.batch_folder.manifest import Manifest, read_manifest
from jobs.batch_folder.results import count_results
from jobs.batch_folder.rows.totals import Totals
from jobs.config import Config
from jobs.errors import ForeignFolder
from jobs.operations.report import done
from jobs.prices.money import dollars
from jobs.wire import Status, timestamp


def forgotten_batches(config: Config, known: Collection[str]) -> tuple[list[Status], list[str]]:
    """The batches in the output folder that are not `known`, newest first, and which folders cannot be read.

    StorageError.
    """
    with storing(config.output_dir):
        names = sorted({path.parent.name for path in config.output_dir.glob(f"*/{MANIFEST}")} - {*known})
    found, problems = list[Status](), list[str]()
    for name in names:
        folder = Folder(config.output_dir, name)
        try:
            if manifest := read_manifest(folder):
                found.append(_status(manifest, count_results(folder)))
        except ForeignFolder as error:
            problems.append(str(error))
    return sorted(found, key=lambda status: status.created_at, reverse=True), problems


def _status(manifest: Manifest, totals: Totals) -> Status:
    return Status(
        batch=manifest.batch,
        state="forgotten",
        total=totals.prompts,
        succeeded=totals.succeeded,
        failed=totals.failed,
        canceled=totals.canceled,
        in_flight=0,
        waiting=totals.missing,
        unknown_creates=0,
        empty=totals.empty,
        unsaved=totals.unsaved,
        cost=totals.cost,
        cost_is_partial=totals.cost_is_partial,
        max_predictions=manifest.max_predictions,
        max_cost=None if manifest.max_cost is None else dollars(manifest.max_cost),
        max_in_flight=manifest.max_in_flight,
        created_at=timestamp(manifest.created_at),
        rate_per_minute=0.0,
        workers=0,
        api_host=manifest.api_host,
    )


def forgotten_notes(statuses: Iterable[Status]) -> Iterator[str]:
    """What can be done with them."""
    found = list(statuses)
    if not found:
        return
    batches = (
        "1 batch is known by its folder" if len(found) == 1 else f"{len(found)} batches are known by their folders"
    )
    yield f"Forgotten: {batches} alone; `python -m jobs results BATCH` shows more."
    if any(done(status) < status.total for status in found):
        yield "`python -m jobs enqueue FILE`, with the same file, goes on with one that is not done."
