"""What `verify` finds: each place where folder, results and Redis disagree."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

RECREATE = "restore it, or have it created again"
RECOUNT = "have Redis count again"
MOVE = "move it away"
ADVICE = {
    RECREATE: "To create a prompt again, which is paid again, move its folder away and have Redis count again.",
    RECOUNT: (
        "Redis counts again after `python -m jobs delete {batch} --force` and enqueuing the same prompts again as "
        "{batch}: prompts with a record cost nothing, those still running at Replicate are paid again."
    ),
}
"""Cures that need a sentence, which is shown once, below all."""


class Disagreement(BaseModel):
    """One thing that does not agree; `prompt` is the id of the prompt that it concerns, if it concerns one."""

    model_config = ConfigDict(frozen=True)

    prompt: str | None = None
    what: str
    cure: str | None = None

    def __str__(self) -> str:
        line = f"{self.prompt}: {self.what}" if self.prompt else self.what
        return f"{line}. Cure: {self.cure}" if self.cure else line


class Verification(BaseModel):
    """What was read of a batch and what does not agree; `in_redis` False: only the folder could be read.

    `unread` files were counted and measured, but their bytes not compared; `cut_short`: there are more disagreements.
    """

    batch: str
    in_redis: bool = False
    finished: bool = False
    prompts: int = 0
    results: int = 0
    files: int = 0
    bytes: int = 0
    unread: int = 0
    cut_short: bool = False
    disagreements: tuple[Disagreement, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether nothing was found."""
        return not self.disagreements


def verification_lines(found: Verification) -> Iterator[str]:
    """One line a disagreement, notes, and a last line that counts."""
    for one in found.disagreements:
        yield f"! {one}"
    yield from found.notes
    yield from advice(found)
    count = len(found.disagreements)
    if not found.finished and not count:
        yield f"`python -m jobs status {found.batch}` says how far the batch is"
    verdict = "all agree" if not count else f"{count} disagreement{'' if count == 1 else 's'}"
    if found.cut_short:
        verdict = f"more than {count} disagreements; the rest was not checked"
    unread = f", {found.unread} of them not read" if found.unread else ""
    yield (
        f"{found.batch}: {found.prompts} prompts, {found.results} results, {found.files} files "
        f"({found.bytes / 1e6:.1f} MB{unread}): {verdict}"
    )


def advice(found: Verification) -> Iterator[str]:
    """How to apply the cures that take more than one command."""
    cures = {one.cure for one in found.disagreements}
    cures |= {RECOUNT} if RECREATE in cures else set()
    yield from (text.format(batch=found.batch) for cure, text in ADVICE.items() if cure in cures)
