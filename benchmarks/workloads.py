"""The workloads of comparisons: how many prompts, what their model does, and which candidates run them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompts whose predictions run as `model` says, each with `files` files of `file_bytes` bytes.

    `settings` are for ours. A `timed` workload cannot be shortened. `quick` are the candidates of the quick run.
    """

    name: str
    title: str
    prompts: int
    candidates: tuple[str, ...]
    model: str = "instant"
    files: int = 1
    file_bytes: int = 102_400
    settings: Mapping[str, str] = field(default_factory=dict)
    repetitions: int = 3
    timed: bool = False
    quick: tuple[str, ...] = ()

    def shorter(self, share: float) -> Workload:
        """The same with fewer prompts."""
        return self if self.timed else replace(self, prompts=max(int(self.prompts * share), 1))

    def server_flags(self) -> list[str]:
        """The flags of the stand-in server."""
        return [f"--model={self.model}", f"--files={self.files}", f"--bytes={self.file_bytes}"]


_SMALL = 1_000

WORKLOADS = (
    Workload(
        "instant",
        "2,000 x 100 KiB, instant model",
        2_000,
        ("ours", "ours-100", "ours-nofsync", "ours-100-nofsync", "official", "httpx", "aiohttp"),
        quick=("ours", "ours-100", "ours-nofsync", "official", "aiohttp"),
    ),
    Workload(
        "bytes",
        "300 x 4 x 2 MiB, instant model",
        300,
        ("ours", "ours-nofsync", "official", "httpx", "aiohttp", "curl"),
        files=4,
        file_bytes=2 << 20,
        quick=("ours", "official", "curl"),
    ),
    Workload("two-seconds", "2,000 x 100 KiB, 2 s model", 2_000, ("ours", "official"), model="fixed:2", timed=True),
    Workload(
        "at-once",
        "600 at once, log-normal model (median 6 s)",
        600,
        ("ours",),
        model="log-normal:6",
        file_bytes=_SMALL,
        timed=True,
        quick=("ours",),
    ),
    Workload(
        "minute",
        "900 of a 60 s model, created at 10/s",
        900,
        ("ours",),
        model="fixed:60",
        file_bytes=_SMALL,
        settings={"BATCH_CREATES_PER_MINUTE": "600", "BATCH_READS_PER_MINUTE": "3000"},
        repetitions=1,
        timed=True,
    ),
    Workload(
        "thousand",
        "1,000 in flight, 10 s model",
        1_000,
        ("ours",),
        model="fixed:10",
        file_bytes=_SMALL,
        timed=True,
    ),
)
