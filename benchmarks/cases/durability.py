"""What durability costs a prediction: checksums, fsync, ledger, record and folder, each measured alone."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import quote

from rich.console import Console
from rich.table import Table

from jobs.batch_folder.folder import Folder
from jobs.redis_client import embedded
from jobs.redis_client.client import connect
from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches, Spent
from jobs.state.ledger import Entry, Ledger
from jobs.wire import Batch, Result
from worker.outputs.file_response import Checksum
from worker.outputs.file_writer import FileWriter
from worker.outputs.staging import Storage

ROUNDS, IN_ONE = 7, 200
SMALL, LARGE = SIZES = 100 << 10, 2 << 20
FSYNC = (("durable", True), ("without fsync", False))

Work = Callable[[int], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of one prediction: on the clock, and of the process's CPU."""

    what: str
    wall: float
    cpu: float


async def costs() -> list[Cost]:
    """Measure everything, one after the other."""
    with tempfile.TemporaryDirectory(prefix="costs-", dir=".") as place, _redis(Path(place)) as redis:
        works = [(f"{name} of {size >> 10} KiB", work) for size in SIZES for name, work in _sums(size)]
        works += [(f"file, record and folder, {name}", _folders(Path(place) / name, fsync)) for name, fsync in FSYNC]
        works += [("PING", lambda _: redis.ping()), ("ledger: intend, record, settle", await _ledger(redis))]
        return [await _measured(what, work) for what, work in works]


@contextmanager
def _redis(place: Path) -> Iterator[Redis]:
    """A client of an embedded server, which writes each change to disk before it answers."""
    yield connect("unix://" + quote(str(embedded.ensure_running(place / "redis"))))
    embedded.stop(place / "redis")


async def _measured(what: str, work: Work) -> Cost:
    walls, cpus, number = [], [], 0
    for _ in range(ROUNDS):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(IN_ONE):
            await work(number)
            number += 1
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Cost(what, median(walls) / IN_ONE * 1e3, median(cpus) / IN_ONE * 1e3)


def _sums(size: int) -> Iterator[tuple[str, Work]]:
    content = secrets.token_bytes(size)

    async def sha256(_: int) -> str:
        return hashlib.sha256(content).hexdigest()

    async def md5(_: int) -> str:
        return hashlib.md5(content, usedforsecurity=False).hexdigest()

    yield "sha256", sha256
    yield "md5", md5


def _folders(home: Path, fsync: bool) -> Work:  # noqa: FBT001 - the only thing that changes
    """A prompt's folder: a file of 100 KiB, its record, and the rename."""
    storage, content = Storage(fsync=fsync), secrets.token_bytes(SMALL)
    checksum = Checksum("md5", hashlib.md5(content, usedforsecurity=False).digest())
    folder = Folder(home.parent, home.name)
    home.mkdir()
    folder.manifest.write_text('{"batch": "durability", "id": "b1", "realm": "api", "created_at": 1.0}')

    async def save(number: int) -> None:
        record = Result(
            id=str(number), index=number, status="succeeded", model="owner/name", input={"prompt": "x" * 80}
        )
        async with storage.staging(folder, str(number), "b1") as staging:
            async with FileWriter(staging, "output") as writer:
                await writer.restart(checksum)
                await writer.write(content)
                await writer.finish(".bin")
            await staging.commit(record.model_dump_json().encode())

    return save


async def _ledger(redis: Redis) -> Work:
    batches = Batches(redis)
    await batches.open(Batch("durability", "b1", "api", 1.0, ROUNDS * IN_ONE, 0, 1.0))

    async def pay_once(number: int) -> None:
        ledger = Ledger(redis, "api", "durability", "b1", number)
        await ledger.record(await ledger.intend(Entry()), f"prediction{number}")
        await batches.settle("durability", number, "succeeded", "b1", Spent(1), 0)

    return pay_once


def main() -> None:
    """Print the costs as a table."""
    table = Table("cost of a prediction", "ms", "ms of CPU")
    for cost in asyncio.run(costs()):
        table.add_row(cost.what, f"{cost.wall:.3f}", f"{cost.cpu:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
