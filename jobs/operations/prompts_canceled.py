"""The cancel of some prompts of a batch."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from jobs.operations.report import NO_WORKER, count_text


class PromptsCanceled(BaseModel):
    """How many prompts without a result will be canceled, by one of so many workers; `dead_letters` are the batch's."""

    batch: str
    prompts: int
    workers: int
    dead_letters: list[str]


def prompts_canceled_lines(canceled: PromptsCanceled) -> Iterator[str]:
    """What becomes of prompts that are to be canceled."""
    if not canceled.prompts:
        yield f"{canceled.batch}: all of these have their results already; nothing to cancel"
        yield f"`python -m jobs results {canceled.batch}` sums them up"
        return
    count, verb = count_text(canceled.prompts, "prompt"), "is" if canceled.prompts == 1 else "are"
    if canceled.workers:
        yield f"{canceled.batch}: {count} {verb} being canceled; `python -m jobs watch {canceled.batch}` follows it"
    else:
        yield f"{canceled.batch}: {count} will be canceled by the next worker"
        yield NO_WORKER
    if canceled.dead_letters:
        yield f"Those in dead letters wait until `python -m jobs retry {canceled.batch}` brings their shards back"
