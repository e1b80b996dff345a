"""How a model is written in a row, a schedule or a setting."""

from __future__ import annotations

import re
from functools import lru_cache

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
