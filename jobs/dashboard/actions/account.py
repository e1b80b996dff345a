"""Actions on the whole account: pause and resume."""

from __future__ import annotations

from jobs.dashboard.actions.question import Action, Asked, Field, Question


async def ask_pause(asked: Asked) -> Question:
    """What a pause would hold back."""
    statuses = [status for status in await asked.operations.statuses() if status.finished_at is None]
    waiting, in_flight = sum(status.waiting for status in statuses), sum(status.in_flight for status in statuses)
    api_host = asked.operations.config.api_host
    return Question(
        "Pause everything",
        (
            f"Nothing more is created at {api_host} until somebody resumes.",
            f"{waiting:,} prompts of {len(statuses):,} batches wait.",
            f"{in_flight:,} predictions that run go on, are paid for and saved.",
        ),
        "Pause",
        fields=(Field("reason", "Reason", "paused from the dashboard", "what `status` shows meanwhile"),),
    )


async def pause(asked: Asked) -> str:
    """Pause."""
    return await asked.operations.pause(asked.values.get("reason", "").strip() or "paused from the dashboard")


async def ask_resume(asked: Asked) -> Question:
    """What a resume would let go."""
    statuses = [status for status in await asked.operations.statuses() if status.finished_at is None]
    waiting = sum(status.waiting for status in statuses)
    sentence = (
        f"Every pause is lifted, of the account and of models; {waiting:,} prompts of {len(statuses):,} batches wait."
    )
    return Question("Resume everything", (sentence,), "Resume")


async def resume(asked: Asked) -> str:
    """Resume."""
    return "Resumed." if await asked.operations.resume() else "Nothing was paused."


ACTIONS = {"pause": Action(ask_pause, pause), "resume": Action(ask_resume, resume)}
