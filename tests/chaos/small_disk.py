"""A disk of a few megabytes that can be filled: a tmpfs in a mount namespace of its own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

MOUNT = 'mount -t tmpfs -o "size=$1" tmpfs "$0" && echo ready && exec sleep 86400'
ENTER = 'cd "$0" && exec "$@"'


class SmallDisk:
    """Mounted on `place` for those programs only that are started `within` it; others see it below `root`."""

    def __init__(self, holder: subprocess.Popen[str], place: Path) -> None:
        self.root = Path(f"/proc/{holder.pid}/root")
        enter = ("nsenter", f"--target={holder.pid}", "--user", "--mount", "--preserve-credentials", "--")
        self.within = (*enter, "sh", "-c", ENTER, str(place.parent))
        self._ballast = self.root / place.relative_to("/") / "ballast"

    def fill(self) -> None:
        """Fill the disk to the last byte."""
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while file.write(b"\0" * 4096):
                pass

    def empty(self) -> None:
        self._ballast.unlink(missing_ok=True)


def possible() -> bool:
    """Whether this system lets us mount in a namespace."""
    if not shutil.which("unshare") or not shutil.which("nsenter"):
        return False
    trial = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]
    return subprocess.run(trial, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[SmallDisk]:
    place.mkdir()
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT, str(place), size]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == "ready\n"
            yield SmallDisk(holder, place)
        finally:
            holder.kill()
