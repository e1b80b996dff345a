"""A trial: one batch with everything that it needs, the faults that it meets, and how long recovery takes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest

from jobs.config import Config
from jobs.redis_client import keys
from simulator.models.file_contents import draw_picture, encode_image
from tests.chaos.points import Point
from tests.chaos.servers import RedisServer

LEASE = 15.0
SECRET = {"CHAOS_SECRET": "a value that nothing but a request may hold"}
"""Of the workers' environment; every fifth input refers to it."""
FILES = 6
"""Local files that inputs name: each is an input of several prompts, in several shards."""
IMAGE = {"width": 16, "height": 16, "output_format": "png"}
SHORT = {"create_timeout": 4.0, "sure_after": 2.0}
"""Of a worker's Timing, as a case would wait for minutes; the matrix calls it a short search."""


@dataclass
class Trial:
    """A batch named `night`; recovery is measured from the last `record_fault`."""

    name: str
    seed: int
    config: Config
    simulator: Any
    server: RedisServer
    nursery: Any
    environment: Callable[[Config], dict[str, str]]
    batch: str = "night"
    within: tuple[str, ...] = ()
    root: Path = Path("/")
    done: dict[str, int] = field(default_factory=dict)
    timing: dict[str, float] = field(default_factory=dict)
    free: bool = False
    """Whether results other than succeeded are expected."""
    refusals: bool = False
    """Whether the API sometimes refuses the account, so that the trial has to resume."""
    cures: dict[str, int] = field(default_factory=dict)
    fault_at: float = 0.0
    taken_over_at: float = 0.0
    finished_at: float = 0.0
    _looked_at: float = 0.0
    _moved_at: float = 0.0
    _settled: int = -1

    def __post_init__(self) -> None:
        self.random = Random(f"{self.seed} {self.name}")

    @property
    def folder(self) -> Path:
        return self.root / (self.config.output_dir / self.batch).relative_to("/")

    def use_real_timing(self) -> None:
        """Use the real lease and search times."""
        self.timing.clear()
        self.config = self.config.model_copy(update={"lease": LEASE})

    @property
    def shrunk(self) -> list[str]:
        """What is shorter than in the product."""
        lease = self.config.lease
        return ["short lease"] * (lease < LEASE) + ["short search"] * bool(self.timing)

    # Prompts and commands

    def enqueue(self, count: int = 210) -> None:
        """Prompts of one or two outputs: every fifth equal to the others, every fifth with a secret, every seventh with
        local files.
        """
        for number in range(FILES):
            self._input(number).parent.mkdir(exist_ok=True)
            self._input(number).write_bytes(encode_image(draw_picture(f"{number}", "", (16, 16)), "png"))
        rows = [self._row(number) for number in range(count)]
        file = self.nursery.directory / f"{self.batch}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        answer = self.cli("enqueue", str(file))
        assert answer.code == 0, answer.err

    def _row(self, number: int) -> dict[str, Any]:
        if number % 7 == 3:
            return self._row_with_files(number)
        if number % 5 == 0:
            return {"model": "simulator/image", "input": {"prompt": "the same cat", **IMAGE}}
        if number % 5 == 1:
            secret = {"$env": "CHAOS_SECRET"}
            return {"model": "simulator/everything", "input": {"prompt": f"say {number}", "key": secret}}
        files = 1 + (number % 5 == 2)
        return {"model": "simulator/image", "input": {"prompt": f"cat {number}", "num_outputs": files, **IMAGE}}

    def _row_with_files(self, number: int) -> dict[str, Any]:
        first, second = (f"@{self._input(each % FILES)}" for each in (number, number // 7))
        if number % 3 == 0:
            return {"model": "simulator/upscale", "input": {"image": first, "seed": number}}
        if number % 3 == 1:
            return {"model": "simulator/collage", "input": {"images": [first, second]}}
        values = {"prompt": f"see {number}", "image": first, "references": [second], "key": {"$env": "CHAOS_SECRET"}}
        return {"model": "simulator/everything", "input": values}

    def _input(self, number: int) -> Path:
        path: Path = self.nursery.directory / "inputs" / f"{number}.png"
        return path

    def cli(self, *arguments: str) -> Any:
        env = self.environment(self.config) | SECRET
        return self.nursery.run("-m", "jobs", *arguments, env=env, within=self.within)

    def status(self) -> dict[str, Any]:
        answer = self.cli("status", self.batch, "--json")
        assert answer.code == 0, answer.err
        found: dict[str, Any] = json.loads(answer.out)
        return found

    # Workers

    def worker(self, point: Point | None = None, how: signal.Signals = signal.SIGKILL, **settings: Any) -> Any:
        """A worker; with a point, one that ends itself there."""
        target = point or Point("")
        order = {
            "target": target.target,
            "when": target.when,
            "having": target.having,
            "hit": self.random.randint(1, target.most),
            "signal": how.name,
            "timing": self.timing,
        }
        env = self.environment(self.config.model_copy(update=settings)) | SECRET | {"CHAOS": json.dumps(order)}
        return self.nursery.start("-m", "tests.chaos.trapped_worker", env=env, within=self.within)

    def wait_until_killed(self, worker: Any, seconds: float = 180) -> None:
        """Wait until a worker has killed itself at its point."""
        self.wait_until(lambda: worker.process.poll() is not None or self._ended(), seconds)
        if worker.process.poll() is None:
            pytest.fail(f"the batch ended and the point was never reached:\n{worker.log()[-3000:]}")
        assert worker.process.returncode == -signal.SIGKILL, worker.log()[-3000:]
        self.record_fault("SIGKILL")

    def wait_until(self, condition: Callable[[], Any], seconds: float = 180) -> None:
        """Wait for it; meanwhile note when all shards are taken over, and act as a user would."""
        deadline = time.monotonic() + seconds
        while not condition():
            now = time.monotonic()
            if now > deadline:
                pytest.fail(f"did not happen within {seconds} s\n{self._logs()}")
            if not self.taken_over_at and self.is_taken_over():
                self.taken_over_at = time.monotonic()
            if now > self._looked_at + 1:
                self._looked_at = now
                self._operate(now)
            time.sleep(0.03)

    def kill(self, worker: Any) -> None:
        worker.kill()
        self.record_fault("SIGKILL")

    def record_fault(self, what: str) -> None:
        """Record a fault that was injected or ended just now: recovery is measured from here."""
        self.done[what] = self.done.get(what, 0) + 1
        self.restart_clock()

    def restart_clock(self) -> None:
        self.fault_at, self.taken_over_at = time.monotonic(), 0.0

    # The end

    def finish(self, seconds: float = 300) -> None:
        """Wait for the end of the batch; then stop all workers."""
        self.wait_until(self._ended, seconds)
        self.finished_at = time.monotonic()
        self.taken_over_at = self.taken_over_at or self.finished_at
        self.stop(*self.living())

    def stop(self, *workers: Any) -> None:
        """SIGTERM, as in a deploy: a worker ends cleanly, or had not started yet, perhaps as Redis did not answer."""
        for worker in workers:
            worker.terminate()
        for worker in workers:
            code = worker.wait(60)
            begun = "shards waiting" in worker.log()
            assert code == 0 or (code in (-signal.SIGTERM, 3) and not begun), worker.log()[-3000:]

    def living(self) -> list[Any]:
        return [child for child in self.nursery.children if child.process.poll() is None]

    def is_taken_over(self) -> bool:
        """Whether a live worker holds the lease of every queued shard."""
        pids = {str(child.process.pid) for child in self.living()}
        client = self.server.client
        jobs: Any = client.zrange(keys.queue(self.config.api_host), 0, -1)
        names = [keys.lease(job.decode().rpartition(":")[0]) for job in jobs]
        owners: Any = client.mget(names) if names else []
        return all(owner and owner.decode().split(":")[1] in pids for owner in owners)

    def settled(self) -> int:
        return self.counted("succeeded", "failed", "canceled")

    def counted(self, *counters: str) -> int:
        counts: Any = self.server.client.hmget(keys.batch(self.batch), list(counters))
        return sum(int(count or 0) for count in counts)

    def wait_until_settled(self, count: int) -> None:
        """Wait until the given number of prompts have their result."""
        self.wait_until(lambda: self.settled() >= count)

    def wait_until_created(self, count: int) -> None:
        """Wait until the given number of predictions were created."""
        self.wait_until(lambda: self.simulator.ledger(summary=True)["created"] >= count)

    def shards_of(self, worker: Any) -> int:
        """How many shards a worker holds."""
        client: Any = self.server.client
        owners = (client.get(key) or b"" for key in client.scan_iter(keys.lease(f"{self.batch}:*")))
        return sum(owner.decode().split(":")[1:2] == [str(worker.process.pid)] for owner in owners)

    @staticmethod
    def stopped(worker: Any) -> bool:
        return bool(psutil.Process(worker.process.pid).status() == psutil.STATUS_STOPPED)

    def _ended(self) -> bool:
        """Whether the batch is finished, its uploads are deleted, and its last job has left the queue."""
        fields: Any = self.server.client.hmget(keys.batch(self.batch), ["finished_at", "uploads"])
        finished, uploads = fields
        return bool(finished and not uploads) and not self.server.client.zcard(keys.queue(self.config.api_host))

    def _operate(self, now: float) -> None:
        """Resume after a refused account; when nothing is settled for a while, retry dead letters."""
        if self.refusals and self.server.client.exists(keys.pause(self.config.api_host)):
            self._cure("resume")
        settled = self.settled()
        if settled != self._settled:
            self._settled, self._moved_at = settled, now
        elif now > self._moved_at + 5:
            self._moved_at = now
            if self.status().get("dead_letters"):
                self._cure("retry", self.batch)

    def _cure(self, command: str, *arguments: str) -> None:
        self.cures[command] = self.cures.get(command, 0) + 1
        assert self.cli(command, *arguments).code == 0

    def _logs(self) -> str:
        tails = (f"--- {child.log_file.name}\n{child.log()[-1500:]}" for child in self.nursery.children[-3:])
        return "\n".join([*tails, self.cli("status", self.batch).out])

    def stack_traces(self) -> int:
        """How many of them workers wrote."""
        return sum(child.log().count("Traceback (most recent call last)") for child in self.nursery.children)
