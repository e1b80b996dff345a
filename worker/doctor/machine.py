"""Checks of this machine: free space, speed of the disk, open files."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from jobs.batch_folder.atomic_files import flush
from jobs.config import Config
from worker.doctor.finding import Finding, failure, ok, warning
from worker.outputs.disk import write_file

LITTLE_ROOM, NO_ROOM = 10e9, 1e9
FEW_INODES = 100_000
SLOW_DISK = 20.0
"""MB/s: ten images of two megabytes a second."""

PIECE, MOST_BYTES, SMALL = 1 << 20, 32 << 20, 50_000
MOST_SMALL = 100
LONGEST = 2.0
"""Seconds that a measurement may take."""

FEW_FILES = 1024


def room_findings(config: Config) -> list[Finding]:
    """Report the free space of the output folder, and whether it is writable."""
    place = _nearest(config.output_dir)
    disk, nodes = shutil.disk_usage(place), os.statvfs(place)
    shown = f"{config.output_dir.absolute()}: {disk.free / 1e9:,.1f} of {disk.total / 1e9:,.1f} GB are free"
    cure = "make room, or set BATCH_OUTPUT_DIR to a larger disk"
    if not place.is_dir():
        return [failure("outputs", f"{place} is no folder", "move it away, or set BATCH_OUTPUT_DIR")]
    if not os.access(place, os.W_OK | os.X_OK):
        return [failure("outputs", f"{place.absolute()} is not writable", "make it so, or set BATCH_OUTPUT_DIR")]
    if disk.free < NO_ROOM:
        return [failure("outputs", shown, cure)]
    if disk.free < LITTLE_ROOM:
        return [warning("outputs", shown, cure)]
    if nodes.f_files and nodes.f_favail < FEW_INODES:
        return [warning("outputs", f"{shown}, for {nodes.f_favail:,} files at most", cure)]
    return [ok("outputs", shown)]


def speed_findings(config: Config) -> list[Finding]:
    """Measure how fast files are written, in a temporary folder; OSError."""
    place = _nearest(config.output_dir)
    with tempfile.TemporaryDirectory(prefix=".doctor.", dir=place) as name:
        large = _megabytes_a_second(Path(name), fsync=config.fsync)
        small = _files_a_second(Path(name), fsync=config.fsync)
    wanted = config.creates_per_minute / 60
    shown = f"{large:,.0f} MB/s, {small:,.0f} small files a second"
    shown += ", each brought to the disk" if config.fsync else ", none brought to the disk (BATCH_FSYNC=false)"
    if large < SLOW_DISK or small < 2 * wanted:
        need = f"{SLOW_DISK:.0f} MB/s and {2 * wanted:.0f} files a second keep up with the limit of creates"
        return [warning("disk speed", shown, f"{need}: set BATCH_OUTPUT_DIR to a faster disk")]
    return [ok("disk speed", shown)]


def file_findings(_: Config) -> list[Finding]:
    """Report how many files may be open at once: each connection and each download takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "no limit of" if hard == resource.RLIM_INFINITY else f"{hard:,}"
    shown = f"{most} open files for a worker ({soft:,} for this shell)"
    if hard != resource.RLIM_INFINITY and hard < FEW_FILES:
        return [warning("open files", shown, f"allow at least {FEW_FILES}: ulimit -n, or LimitNOFILE= of systemd")]
    return [ok("open files", shown)]


def _nearest(directory: Path) -> Path:
    """The directory, or its nearest parent that exists: a check creates nothing."""
    return next(place for place in (directory.absolute(), *directory.absolute().parents) if place.exists())


def _megabytes_a_second(place: Path, *, fsync: bool) -> float:
    piece, written = os.urandom(PIECE), 0
    started = time.monotonic()
    with (place / "large").open("wb", buffering=0) as file:
        while written < MOST_BYTES and time.monotonic() - started < LONGEST:
            file.write(piece)
            written += PIECE
        flush(file, fsync=fsync)
    return written / 1e6 / (time.monotonic() - started)


def _files_a_second(place: Path, *, fsync: bool) -> float:
    content = os.urandom(SMALL)
    return _rate(lambda number: write_file(place / f"{number}", None, [content], fsync=fsync))


def _rate(act: Callable[[int], None]) -> float:
    started = time.monotonic()
    for number in range(1, MOST_SMALL + 1):
        act(number)
        if (seconds := time.monotonic() - started) > LONGEST:
            break
    return number / seconds
