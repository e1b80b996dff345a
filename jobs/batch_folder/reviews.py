"""review.jsonl: what people think of results. Each line is one prompt's whole review at a time; the last one holds."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.batch_folder.atomic_files import storing
from jobs.batch_folder.folder import Folder
from jobs.wire import timestamp

LONGEST_REASON = 1_000


class Review(BaseModel):
    """What somebody thinks of a prompt's result; `rating` is from 1 to 5, 0: none. `at` is RFC 3339, UTC."""

    model_config = ConfigDict(frozen=True)

    id: str
    rating: Annotated[int, Field(ge=0, le=5)] = 0
    starred: bool = False
    rejected: bool = False
    reason: Annotated[str, Field(max_length=LONGEST_REASON)] = ""
    at: str = ""

    def __bool__(self) -> bool:
        """Whether it says anything: what was taken back does not."""
        return bool(self.rating or self.starred or self.rejected)


def add_review(folder: Folder, review: Review, *, fsync: bool) -> Review:
    """Add a review, which replaces the prompt's former one; returns it with its time. StorageError."""
    kept = review.model_copy(update={"at": timestamp()})
    with storing(folder.reviews), folder.reviews.open("ab+", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        end = file.seek(0, os.SEEK_END)
        is_torn = end > 0 and os.pread(file.fileno(), 1, end - 1) != b"\n"
        file.write(b"\n" * is_torn + kept.model_dump_json().encode() + b"\n")
        if fsync:
            os.fsync(file.fileno())
    return kept


def read_reviews(folder: Folder, start: int = 0) -> Iterator[tuple[Review, int]]:
    """Yield the reviews behind a place in the file, each with where it ends; what is no review is skipped."""
    try:
        with folder.reviews.open("rb") as lines:
            end = lines.seek(start)
            for line in lines:
                end += len(line)
                if line.endswith(b"\n") and (review := _parse(line)) is not None:
                    yield review, end
    except FileNotFoundError:
        return


def last_reviews(folder: Folder) -> dict[str, Review]:
    """The review of each prompt that has one. StorageError."""
    with storing(folder.reviews):
        found = {review.id: review for review, _ in read_reviews(folder)}
    return {
        prompt_id: review for prompt_id, review in found.items() if review.rating or review.starred or review.rejected
    }


def _parse(line: bytes) -> Review | None:
    try:
        values: Any = orjson.loads(line)
        return Review.model_validate(values)
    except (ValueError, ValidationError):
        return None
