"""The output files of prompts, for inputs of other batches: found by their names in the records, on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from jobs.batch_folder.folder import Folder
from jobs.errors import StorageError
from jobs.input_files.local_files import UnfitFile
from jobs.names import LONGEST_PROMPT_ID, name_problem
from jobs.wire import Result, SavedFile


def find_output(output_dir: Path, name: str) -> Path | UnfitFile:
    """The file of `BATCH/PROMPT_ID/FILE`, whose extension may be left out, or why there is none."""
    batch, _, rest = name.partition("/")
    prompt_id, _, file_name = rest.partition("/")
    if not batch or not prompt_id or not file_name:
        return UnfitFile("name", f"an output, but not as @batch:BATCH/ID/FILE: @batch:{name}")
    folder = Folder(output_dir, batch)
    if not is_batch(folder):
        return UnfitFile("batch", f"an output of batch {batch!r}, which is not in {output_dir.absolute()}")
    try:
        result = None if name_problem(prompt_id, LONGEST_PROMPT_ID) else folder.read_record(prompt_id)
    except StorageError as error:
        return UnfitFile("record", f"an output of {batch}/{prompt_id}: {error}")
    return _file_of(folder, prompt_id, result, file_name)


def is_batch(folder: Folder) -> bool:
    """Whether a folder is that of a batch."""
    try:
        return not name_problem(folder.batch, 64) and folder.batch_id() is not None
    except StorageError:
        return False


def named(files: Sequence[SavedFile], name: str) -> list[SavedFile]:
    """The files of that name, whose extension may be left out."""
    paths = [(PurePosixPath(file.path), file) for file in files]
    return [file for path, file in paths if path.name == name] or [file for path, file in paths if path.stem == name]


def _file_of(folder: Folder, prompt_id: str, result: Result | None, name: str) -> Path | UnfitFile:
    prompt = f"{folder.batch}/{prompt_id}"
    if result is None:
        return UnfitFile("result", f"an output of {prompt}, which is not done yet, or no prompt of that batch")
    if result.status != "succeeded":
        ended = "was canceled" if result.status == "canceled" else "failed"
        return UnfitFile("unsuccessful", f"an output of {prompt}, which {ended}")
    if found := named(result.files, name):
        return (folder.path / found[0].path).absolute()
    names = ", ".join(PurePosixPath(file.path).name for file in result.files) or "none"
    return UnfitFile("file", f"{name!r} of {prompt}, whose files are: {names}")
