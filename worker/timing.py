"""The delays of a worker, as one value that tests shorten."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from jobs.account.account import RECHECK_SECONDS
from jobs.replicate_api.predictions import CREATE_TIMEOUT, RETENTION
from worker.outputs import download
from worker.polling import poll_policy
from worker.uploads.sender import PATIENCE


@dataclass(frozen=True, slots=True)
class Timing:
    """Delays in seconds, and the dice of the backoffs."""

    jitter: Callable[[], float] = random.random
    """Where in its range the delay of a backoff lies, from 0 to 1."""

    create_timeout: float = CREATE_TIMEOUT
    """How long a create may take, besides the time that blocking mode lets the server wait."""

    sure_after: float = 30.0
    """Past a create's own time, after which a prediction that the list does not show does not exist."""

    searchable: float = 55 * 60.0
    """After which a prediction can no longer be found: Replicate removes inputs after an hour."""

    between_searches: float = 1.0
    """Between two reads of the list for predictions whose create was not answered."""

    once_more_after: float = 5.0
    """After which a model that has worked, and now is said not to exist, is tried once more."""

    stop_patience: float = 10.0
    """How long a create under way may take when its worker stops; after that it is left to a search."""

    upload_patience: float = PATIENCE
    """For how long no upload at all may be answered, while the rest of the API answers, before it fails."""

    retention: float = RETENTION
    """How long Replicate keeps an output."""

    late: float = 1800.0
    """How long a download that began while the output was kept may go on after that."""

    hold: int = 5
    """How long a reported trouble holds back creates; while it lasts it is reported every second."""

    folder_check: float = 1.0
    """Between two checks of a prompt whether its folder can be written again."""

    folder_retry: float = 5.0
    """Between two tries of a shard to write into its batch's folder."""

    first_refusal: float = 1.0
    """How long workers with a free slot have to start a shard that nobody holds; also between two checks for a slot."""

    account_recheck: float = RECHECK_SECONDS
    """Between two checks of a pause of the account that a worker set."""

    token_again: float = 2.0
    """Between the two requests that confirm a refused token."""

    downloads: download.Timing = field(default_factory=download.Timing)
    polling: poll_policy.Timing = field(default_factory=poll_policy.Timing)
