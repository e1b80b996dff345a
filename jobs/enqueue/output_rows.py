"""`--from BATCH`: a row for each output file of another batch, with the id of its prompt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.output_files import is_batch, named
from jobs.batch_folder.results import records
from jobs.errors import InputError
from jobs.expansion.variant_ids import variant_id
from jobs.input_files.media_kinds import media_kind
from jobs.prompts_file.formats import Record
from jobs.wire import Result, SavedFile

_MOST_EXAMPLES = 3


@dataclass(frozen=True)
class OutputRows:
    """The outputs of a batch; `file`: only the ones of that name, whose extension may be left out.

    `key` is the input that they are, None: the only one that takes a file.
    """

    source: str
    file: str | None = None
    key: str | None = None

    unit = "row"

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"batch {self.source!r}"

    @property
    def origin(self) -> str:
        """What the batch keeps of where its rows came from."""
        return f"@batch:{self.source}"

    @property
    def batch(self) -> str:
        """What a batch of it is called."""
        return f"from-{self.source}"

    def records(self, key: str, output_dir: Path, notes: list[str]) -> Iterator[Record]:
        """Yield a row for each file; the prompts without any are noted. StorageError, InputError."""
        folder = Folder(output_dir, self.source)
        if not is_batch(folder):
            raise InputError(f"--from: there is no batch {self.source!r} in {output_dir.absolute()}")
        left_out, number = _LeftOut(), 0
        for prompt, result in records(folder):
            files = self._files(result) if result and result.status == "succeeded" else []
            if not files:
                left_out.add(prompt.id, result)
            for file in files:
                number += 1
                prompt_id = prompt.id if len(files) == 1 else variant_id(prompt.id, [PurePosixPath(file.path).stem])
                path = (folder.path / file.path).absolute()
                yield Record(number, number, {"id": prompt_id, "input": {key: f"@{path}"}})
        notes += left_out.sentences(self.source)
        if not number:
            raise InputError(". ".join([f"--from: no prompt of batch {self.source!r} has an output file", *notes]))

    def _files(self, result: Result) -> list[SavedFile]:
        """Those that are wanted; if no name says which, the pictures or the videos, not what is written about them."""
        if self.file:
            return named(result.files, self.file)
        kinds = {kind for file in result.files if (kind := media_kind(file.path))}
        if len(kinds) > 1:
            names = ", ".join(PurePosixPath(file.path).name for file in result.files)
            raise InputError(
                f"--from: the prompt {result.id!r} of batch {self.source!r} has files of several kinds, {names}; name "
                f"the one that is meant: --from {self.source}/{PurePosixPath(result.files[0].path).stem}"
            )
        return [file for file in result.files if not kinds or media_kind(file.path)]


@dataclass
class _LeftOut:
    """The prompts that have no output for a row, by the reason."""

    ids: dict[str, list[str]] = field(default_factory=dict)

    def add(self, prompt_id: str, result: Result | None) -> None:
        """Count a prompt."""
        if result is None:
            reason = "no result yet; the same command adds them later"
        else:
            reason = "no such file" if result.status == "succeeded" else "not succeeded"
        self.ids.setdefault(reason, []).append(prompt_id)

    def sentences(self, batch: str) -> Iterator[str]:
        """What is left out."""
        for reason, ids in self.ids.items():
            few = ", ".join(ids[:_MOST_EXAMPLES]) + (", …" if len(ids) > _MOST_EXAMPLES else "")
            prompts = "1 prompt" if len(ids) == 1 else f"{len(ids):,} prompts"
            yield f"{prompts} of {batch} left out ({few}): {reason}"
