"""Actions on one batch, or on what a filter shows of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from jobs.budget import UNCHANGED
from jobs.dashboard.actions.question import REFUSED, Action, Asked, Field, Question
from jobs.errors import InputError
from jobs.operations.limits import LimitChanges, limit_lines
from jobs.operations.preview import Preview
from jobs.operations.prompts_canceled import prompts_canceled_lines as canceled_lines
from jobs.operations.report import cancel_lines, count_text, estimate_words, receipt_line, unpriced_lines
from jobs.operations.selection import Selection
from jobs.prices.money import MICRO

MODELS_SHOWN = 8
LIMITS = {"max_predictions": "Predictions at most", "max_cost": "Dollars at most", "max_in_flight": "In flight at most"}


async def ask_retry(asked: Asked) -> Question:
    """What a retry would create; what was refused for its content only if that is ticked, as it would be again."""
    preview = await asked.operations.preview_retry(asked.batch, _to_retry(asked))
    title = f"Retry what did not succeed{_scope(asked)}"
    if not preview.prompts and not asked.refused:
        return Question(title, ("There is nothing to retry.",))
    sentences = tuple(_preview_sentences(preview)) if preview.prompts else ("Nothing else can be retried.",)
    return Question(title, sentences, "Retry", preview.prompts, fields=tuple(_refused_field(asked)))


async def retry(asked: Asked) -> str:
    """Retry."""
    return receipt_line(await asked.operations.retry(asked.batch, UNCHANGED, None, _to_retry(asked)))


def _to_retry(asked: Asked) -> Selection | None:
    if not asked.refused or asked.values.get(REFUSED):
        return asked.selection
    return replace(asked.selection or Selection(), other_kinds=frozenset({REFUSED}))


def _refused_field(asked: Asked) -> Iterator[Field]:
    if asked.refused:
        label = f"also {count_text(asked.refused, 'prompt')} that failed for {'its' if asked.refused == 1 else 'their'}"
        yield Field(REFUSED, f"{label} content", hint="the model would most likely refuse again", is_box=True)


async def ask_cancel(asked: Asked) -> Question:
    """What a cancel would end."""
    preview = await asked.operations.preview_cancel(asked.batch, asked.selection)
    title = f"Cancel{_scope(asked)}" if asked.selection else "Cancel the batch"
    if not preview.prompts:
        return Question(title, ("There is nothing to cancel.",))
    sentences = (
        f"{count_text(preview.in_flight, 'prediction')} in flight would be canceled at Replicate.",
        f"{count_text(preview.never_created, 'prompt')} would never be created.",
        "What has succeeded stays. A retry can bring the rest back.",
    )
    return Question(title, sentences, "Cancel what is not done", preview.prompts, danger=True)


async def cancel(asked: Asked) -> str:
    """Cancel."""
    if asked.selection:
        return " ".join(canceled_lines(await asked.operations.cancel_prompts(asked.batch, asked.selection)))
    return " ".join(cancel_lines(await asked.operations.cancel(asked.batch)))


async def ask_limit(asked: Asked) -> Question:
    """Which limits the batch has."""
    current = (await asked.operations.limit(asked.batch, {}, dry_run=True)).before.model_dump()
    hint = "`none` for no limit"
    fields = [Field(name, label, _shown(current[name]), hint) for name, label in LIMITS.items()]
    priority = Field("priority", "Priority", _shown(current["priority"]), "2 gets twice the share of 1")
    sentence = "Workers obey new limits within seconds; nothing that runs is canceled."
    return Question("Limits and priority", (sentence,), "Change", fields=(*fields, priority))


async def limit(asked: Asked) -> str:
    """Change what was filled in and differs."""
    current = (await asked.operations.limit(asked.batch, {}, dry_run=True)).before.model_dump()
    changes: LimitChanges = {
        name: _read_limit(name, given)
        for name in LIMITS
        if (given := asked.values.get(name, "").strip()) and given != _shown(current[name])
    }
    given = asked.values.get("priority", "").strip()
    priority = None if given in ("", _shown(current["priority"])) else _read_priority(given)
    return " ".join(limit_lines(await asked.operations.limit(asked.batch, changes, priority)))


async def ask_pause(asked: Asked) -> Question:
    """What a pause would hold back."""
    status = await asked.operations.status(asked.batch)
    sentences = (
        "Nothing more is created for this batch until somebody resumes it; other batches go on.",
        f"{count_text(status.waiting, 'prompt')} wait{'s' if status.waiting == 1 else ''}.",
        f"{count_text(status.in_flight, 'prediction')} in flight: what runs goes on, is paid for and saved.",
    )
    reason = Field("reason", "Reason", "paused from the dashboard", "what `status` shows meanwhile")
    return Question("Pause the batch", sentences, "Pause", fields=(reason,))


async def pause(asked: Asked) -> str:
    """Pause."""
    reason = asked.values.get("reason", "").strip() or "paused from the dashboard"
    return await asked.operations.pause_batch(asked.batch, reason)


async def ask_resume(asked: Asked) -> Question:
    """What a resume would let go."""
    status = await asked.operations.status(asked.batch)
    if status.paused is None:
        return Question("Resume the batch", ("The batch is not paused itself.",))
    sentences = (f"It is paused: {status.paused}", f"{count_text(status.waiting, 'prompt')} would go on.")
    return Question("Resume the batch", sentences, "Resume")


async def resume(asked: Asked) -> str:
    """Resume."""
    return f"{asked.batch}: {'resumed' if await asked.operations.resume_batch(asked.batch) else 'it was not paused'}"


def _scope(asked: Asked) -> str:
    return "" if asked.indexes is None else f", of the {count_text(len(asked.indexes), 'prompt')} that the filter shows"


def _preview_sentences(preview: Preview) -> Iterator[str]:
    yield f"{count_text(preview.prompts, 'prompt')} would run again:"
    models = list(preview.models.items())
    yield from (f"{count:,} of {model}" for model, count in models[:MODELS_SHOWN])
    if len(models) > MODELS_SHOWN:
        yield f"and {len(models) - MODELS_SHOWN} more models"
    words = estimate_words(preview)
    yield f"It {words}." if words.startswith("costs") else f"What it costs is not known{words and f': {words}'}."
    yield from unpriced_lines(preview)


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _read_limit(name: str, text: str) -> int | None:
    if text == "none":
        return None
    try:
        return round(float(text) * MICRO) if name == "max_cost" else int(text)
    except (ValueError, OverflowError):
        raise InputError(f"{LIMITS[name]}: {text!r} is no number, and not `none`") from None


def _read_priority(text: str) -> float:
    try:
        priority = float(text)
    except ValueError:
        raise InputError(f"Priority: {text!r} is no number") from None
    if not 0.001 <= priority <= 1000:
        raise InputError("Priority must be between 0.001 and 1000")
    return priority


ACTIONS = {
    "retry": Action(ask_retry, retry),
    "cancel": Action(ask_cancel, cancel),
    "limit": Action(ask_limit, limit),
    "pause": Action(ask_pause, pause),
    "resume": Action(ask_resume, resume),
}
