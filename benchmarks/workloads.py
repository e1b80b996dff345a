"""The work that is measured: how many prompts, what their model gives, and who takes part."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Workload:
    """So many prompts whose predictions run as `model` says and give so many files of so many bytes."""

    name: str
    prompts: int
    model: str = "instant"
    files: int = 1
    file_bytes: int = 102_400
    contenders: tuple[str, ...] = ()

    def shorter(self, share: float) -> Workload:
        """The same with fewer prompts."""
        return replace(self, prompts=max(int(self.prompts * share), 1))

    def server_flags(self) -> list[str]:
        """What the stand-in is told."""
        return [f"--model={self.model}", f"--files={self.files}", f"--bytes={self.file_bytes}"]


PEERS = ("official", "httpx", "aiohttp")
OURS = ("ours", "ours-100", "ours-nofsync", "ours-100-nofsync")

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("instant", 2_000, contenders=(*OURS, *PEERS)),
        Workload("bytes", 300, files=4, file_bytes=2 << 20, contenders=(*OURS[::2], *PEERS)),
        Workload("two-seconds", 2_000, model="fixed:2", contenders=("ours", *PEERS)),
    )
}
