"""Every error of the project. `except BatchError` catches them all; facts are attributes.

BatchError
├── InputError            what the user gave is wrong; nothing was done (exit code 2)
│   ├── PromptsError      a prompts file, with every wrong line
│   ├── ModelsUnknown     what the models of a file are could not be asked
│   ├── ConfigError       the environment or .env
│   ├── ScheduleError     schedules.toml
│   ├── NotifyError       notify.toml, or the name of a receiver
│   ├── MissingSecret     an input refers to an environment variable that is not set
│   ├── InputFileError    a local file of an input cannot be uploaded
│   ├── PriceError        prices.toml, or a cost that was not agreed to
│   ├── UnfitRedis        a Redis that is too old, or forgets keys when it is full
│   └── BatchNotFound     no batch of that name
├── RedisUnreachable      no Redis answers (exit code 3)
│   └── NothingEnqueued   the embedded server has never run: there is nothing to read
├── StorageError          the disk or the output folder does not do what is asked
│   ├── ForeignFolder     the folder at that path is not this batch's
│   ├── LostFolder        a running batch's folder is gone, unreadable or another batch's
│   └── DamagedRecord     a prompt's prediction.json is not a record
├── ReplicateError        a call of Replicate's API did not do what was asked
│   ├── NotSent           the request certainly had no effect: safe to send again
│   │   └── Blocked       an intermediary stopped it: everybody waits
│   ├── Unanswered        the request may have had its effect: never simply sent again
│   ├── RateLimited       429: not done; everybody waits
│   ├── AccountRefused    401 or 402: nothing works until somebody fixes the account
│   ├── NotFound          404
│   └── InvalidRequest    any other 4xx: this request will never work
├── OverBudget            the batch's budget allows no further prediction
└── OutputError           one output file of a prediction could not be fetched
    ├── OutputGone        the file host no longer has it
    ├── FileRefused       not a host or a scheme that we may fetch from
    ├── FileTooBig        more than MAX_FILE_BYTES
    └── BrokenDownload    cut short, stalled or with a wrong checksum: worth another try
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


class BatchError(Exception):
    """Base of all errors of this project; `str()` is a sentence for the user."""

    exit_code = 1


class InputError(BatchError):
    """What the user gave is wrong; nothing was done."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a file: its line (from 1; 0 = the whole file) and why.

    `others` lines have it too; `next_lines` are the first of them. `unit` is what is counted, if not lines.
    """

    line: int
    message: str
    others: int = 0
    next_lines: tuple[int, ...] = ()
    unit: str = "line"

    def __str__(self) -> str:
        return f"{self._lines()}: {self.message}" if self.line else self.message

    def _lines(self) -> str:
        if not self.others:
            return f"{self.unit} {self.line}"
        more = self.others - len(self.next_lines)
        named = [str(line) for line in (self.line, *self.next_lines)]
        last = f"{more:,} more" if more else named.pop()
        return f"{self.unit}s {', '.join(named)} and {last}"


class PromptsError(InputError):
    """A prompts file has errors: `problems` holds the first ones, `count` says how many there are."""

    def __init__(self, source: str, problems: Sequence[Problem], count: int) -> None:
        self.source, self.problems, self.count = source, tuple(problems), count
        lines = [f"{source}: {count} error{'s' if count != 1 else ''}; nothing was enqueued"]
        lines += [f"  {problem}" for problem in self.problems]
        if more := count - sum(1 + problem.others for problem in self.problems):
            lines.append(f"  … and {more} more")
        super().__init__("\n".join(lines))


class ModelsUnknown(InputError):
    """What the models of a file are could not be asked, so that its rows were not checked."""


class ConfigError(InputError):
    """A setting in the environment or in .env is wrong."""


class ScheduleError(InputError):
    """schedules.toml is wrong: where, and why."""


class NotifyError(InputError):
    """notify.toml is wrong: where, and why; or no receiver has that name."""


class MissingSecret(InputError):
    """An input refers to an environment variable that the worker does not have."""


class InputFileError(InputError):
    """A local file that an input refers to is missing, unreadable, not as it was enqueued, or refused by Replicate."""


class PriceError(InputError):
    """prices.toml is wrong: where, and why; or what something costs was not agreed to."""


class UnfitRedis(InputError):
    """A Redis that is too old, or forgets keys when it is full."""


class BatchNotFound(InputError):
    """No batch of that name is known to this Redis."""


class RedisUnreachable(BatchError):
    """No Redis answers where one should."""

    exit_code = 3


class NothingEnqueued(RedisUnreachable):
    """The embedded server has never run for this directory: nothing was enqueued, and there is nothing to read."""


class StorageError(BatchError):
    """The disk or the output folder does not do what is asked; `path` says where."""

    exit_code = 2

    def __init__(self, message: str, path: Path) -> None:
        self.path = path
        super().__init__(message)


class ForeignFolder(StorageError):
    """The folder at `path` does not belong to this batch."""


class LostFolder(StorageError):
    """The folder of a running batch is not there, cannot be read or is another batch's: all of it has to wait."""


class DamagedRecord(StorageError):
    """A prompt's prediction.json exists and is not a record."""


class ReplicateError(BatchError):
    """A call of Replicate's API failed; `status` is the HTTP status, None when no answer came.

    `retry_after`: for how many seconds everybody must wait, None when the answer does not say.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        prediction_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.status, self.prediction_id, self.retry_after = status, prediction_id, retry_after
        super().__init__(message)


class NotSent(ReplicateError):
    """The request certainly had no effect: no connection was made."""


class Blocked(NotSent):
    """Something before the API (a firewall, a proxy) answered instead: the request never reached it."""


class Unanswered(ReplicateError):
    """The request may have had its effect: a timeout, a cut connection, a 5xx, an unreadable answer."""


class RateLimited(ReplicateError):
    """429: the request was not done; `reduced` means low credit."""

    def __init__(self, message: str, *, retry_after: float | None, reduced: bool = False) -> None:
        self.reduced = reduced
        super().__init__(message, status=429, retry_after=retry_after)


class AccountRefused(ReplicateError):
    """401 (the token) or 402 (the credit): nothing works until somebody fixes it."""


class NotFound(ReplicateError):
    """404: no such prediction, model, version or deployment."""


class InvalidRequest(ReplicateError):
    """Any other 4xx; `fields` are Replicate's `invalid_fields`."""

    def __init__(self, message: str, *, status: int, fields: Sequence[dict[str, Any]] = ()) -> None:
        self.fields = tuple(fields)
        super().__init__(message, status=status)


class OverBudget(BatchError):
    """The batch's budget allows no further prediction: it is `spent`, `short` for now, or a price is missing.

    While attempts are open, some of what they have reserved may be returned.
    """

    def __init__(self, verdict: Literal["spent", "short", "unpriced"]) -> None:
        self.verdict = verdict
        super().__init__(f"the batch's budget is {verdict}")


class OutputError(BatchError):
    """One output file could not be fetched; `url` says which."""

    def __init__(self, message: str, url: str) -> None:
        self.url = url
        super().__init__(message)


class OutputGone(OutputError):
    """The file host answers 403, 404 or 410: expired or deleted."""


class FileRefused(OutputError):
    """The URL, or one it redirects to, is not on an allowed host or not https."""


class FileTooBig(OutputError):
    """The file has more bytes than MAX_FILE_BYTES."""


class BrokenDownload(OutputError):
    """The transfer broke, was too slow, or its bytes do not match the host's length or checksum."""

    def __init__(self, message: str, url: str, *, slow: bool = False) -> None:
        self.slow = slow
        super().__init__(message, url)
