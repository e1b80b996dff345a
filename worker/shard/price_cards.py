"""The rate cards that a batch keeps, read again only when their file has changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache

from jobs.batch_folder.folder import Folder
from jobs.catalog.models_file import read_cards
from jobs.errors import StorageError
from jobs.prices.price_list import NO_CARDS
from jobs.prices.rate_card import RateCard

logger = logging.getLogger(__name__)

BATCHES = 64
"""How many batches' cards are remembered."""


def load_cards(folder: Folder) -> Mapping[str, RateCard]:
    """The cards by models; none of a batch without them, or when the file is damaged: then the prices of now hold."""
    try:
        found = folder.models.stat()
    except OSError:
        return NO_CARDS
    try:
        return _read(folder, (found.st_ino, found.st_size, found.st_mtime_ns))
    except StorageError as error:
        logger.warning("! %s: its prices are those of prices.toml until its own can be read: %s", folder.batch, error)
        return NO_CARDS


@lru_cache(maxsize=BATCHES)
def _read(folder: Folder, _mark: tuple[int, int, int]) -> Mapping[str, RateCard]:
    return read_cards(folder)
