"""What names may be: of models, batches and prompts."""

from __future__ import annotations

import re
from functools import lru_cache

OWN_NAMES = re.compile(
    r"((batch|models)\.json|(prompts|results|errors|review)\.jsonl|index(-\d+)?\.html)", re.IGNORECASE
)
"""The batch's own files: no prompt may have such an id."""

_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
LONGEST_PROMPT_ID = 128

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_MODEL = re.compile(
    rf"(?!deployments/[^/]*$){_NAME}/{_NAME}(:[0-9a-f]{{64}})?|[0-9a-f]{{64}}|deployments/{_NAME}/{_NAME}"
)


@lru_cache(maxsize=1000)
def model_problem(model: str) -> str | None:
    """What is wrong with a model reference, if anything."""
    if _MODEL.fullmatch(model):
        return None
    return (
        f"{model[:100]!r} is not a model: write owner/name, owner/name:<64 hex digits>, <64 hex digits> (a version) "
        "or deployments/owner/name"
    )


def name_problem(name: str, longest: int) -> str | None:
    """What is wrong with a prompt's id or a batch's name, if anything."""
    if not _ID.fullmatch(name) or len(name) > longest:
        return f"{name[:80]!r} is not 1 to {longest} characters of A-Z a-z 0-9 . _ - without a leading dot"
    if "." in name and OWN_NAMES.fullmatch(name):
        return f"{name!r} is the name of one of the batch's own files"
    return None


def is_prompt_id(text: str) -> bool:
    """Whether a prompt may have this id; TypeError when it is no text."""
    is_id = _ID.fullmatch(text) is not None and len(text) <= LONGEST_PROMPT_ID
    return is_id and not ("." in text and OWN_NAMES.fullmatch(text))
