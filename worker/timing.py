"""The delays of prompts and shards that tests shorten."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from jobs.replicate_api.predictions import CREATE_TIMEOUT


@dataclass(frozen=True, slots=True)
class Timing:
    """A worker's delays in seconds, and the dice of its backoffs."""

    jitter: Callable[[], float] = random.random
    """Where in its range the delay of a backoff lies, from 0 to 1."""

    create_timeout: float = CREATE_TIMEOUT
    """How long a create may take, besides the time that blocking mode lets the server wait."""

    sure_after: float = 30.0
    """Past a create's own time, after which a prediction that the list does not show does not exist."""

    searchable: float = 55 * 60.0
    """After which a prediction can no longer be found: Replicate removes inputs after an hour."""

    once_more_after: float = 5.0
    """After which a model that has worked, and now is said not to exist, is tried once more."""

    stop_patience: float = 10.0
    """How long a create under way may take when its worker stops; after that it is left to a search."""
