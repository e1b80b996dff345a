"""A Redis that is shared with others lets us in as a user who may touch our keys only, with the commands we need."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from jobs.config import Config
from jobs.redis_client import embedded
from jobs.redis_client.client import connect
from jobs.redis_client.requirements import ACL_LINE, CLUSTER
from jobs.state.batches import Batches

IMAGE = {"width": 16, "height": 16, "output_format": "png"}
FAST = {"creates_per_minute": 60_000.0, "reads_per_minute": 60_000.0, "poll_interval": 0.1, "lease": 2.0}
FAULTS = {"lost_answer": {"next": 2}, "failed": {"next": 3, "text": "(E003)"}, "throttle": {"next": 2, "seconds": 0.1}}
SCHEDULE = '[[schedule]]\nname = "nightly"\ncron = "* * * * *"\nfile = "night.jsonl"\ntimezone = "UTC"\n'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    """A Redis of this test's own, as its administrator."""
    home = tmp_path / "server"
    with Redis(unix_socket_path=str(embedded.ensure_running(home))) as client:
        yield client
    embedded.stop(home)


@pytest.fixture
def restricted(server: Redis, config: Config, tmp_path: Path, simulator: Any) -> Config:
    """The configuration of a user with the rights that README and doctor name, and no others."""
    simulator.settings(limiter="off", predict_min=0.02, predict_max=0.1, queue_max=0.0)
    server.execute_command(*ACL_LINE.replace("PASSWORD", "secret").split())
    server.acl_log_reset()
    socket = quote(server.connection_pool.connection_kwargs["path"])
    limits = {"model_limits": "simulator/image=6000/min max 20", "prices": "simulator/image=0.003"}
    (tmp_path / "schedules.toml").write_text(SCHEDULE)
    settings = {"redis_url": SecretStr(f"unix://replicate-batch:secret@{socket}"), **FAST, **limits}
    return config.model_copy(update=settings)


@pytest.fixture
async def batches(restricted: Config) -> AsyncIterator[Batches]:
    """The batches, as that user sees them."""
    assert restricted.redis_url
    client = connect(restricted.redis_url.get_secret_value())
    yield Batches(client)
    await client.aclose()


def refused(server: Redis) -> list[str]:
    """The commands and keys that Redis refused a user, over all its connections."""
    known = {"config|get"}  # the doctor asks, and says when it is not told
    entries: Any = server.acl_log()
    return sorted({str(entry["object"]) for entry in entries} - known)


async def test_a_user_with_the_rights_that_we_name_can_do_everything(  # noqa: PLR0917 - fixtures
    server: Redis,
    restricted: Config,
    batches: Batches,
    cli: Callable[..., Any],
    nursery: Any,
    environment_of: Callable[[Config], dict[str, str]],
    simulator: Any,
    tmp_path: Path,
    eventually: Callable[..., Any],
) -> None:
    settings = dict(restricted)
    simulator.control(**FAULTS)
    rows = [{"model": "simulator/image", "input": {"prompt": f"cat {n}", **IMAGE}} for n in range(40)]
    (tmp_path / "mask.bin").write_bytes(b"a mask")
    rows += [{"model": "simulator/everything", "input": {"image": "@mask.bin"}}]
    rows += [{"model": "simulator/nothing-of-that-name", "input": {"prompt": "x"}}]
    (tmp_path / "night.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    worker = nursery.start("-m", "arq", "worker.Settings", env=environment_of(restricted))

    def run(*arguments: str, module: str = "jobs", ok: tuple[int, ...] = (0,)) -> str:
        answer = cli(*arguments, module=module, **settings)
        assert answer.code in ok, (arguments, answer, worker.log())
        return str(answer.out)

    async def finished(batch: str) -> bool:
        """As `status` reads it, but without a process each time."""
        return bool((await batches.get(batch)).finished_at)

    await eventually(lambda: "night" in worker.log() or "waiting" in worker.log())
    run("enqueue", "night.jsonl", "--max-in-flight", "10", "--max-predictions", "90", "--no-model-check")
    await eventually(lambda: finished("night"), 60)
    run("watch", "night", ok=(1,))
    run("results", "night", "--failed", ok=(1,))
    run("gallery", "night")
    run("pause", "for a test")
    run("retry", "night")
    run("status")
    run("resume")
    await eventually(lambda: finished("night"), 60)
    run("verify", "night")
    (tmp_path / "second.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    run("enqueue", "second.jsonl", "--priority", "3")
    run("cancel", "second")
    await eventually(lambda: finished("second"), 60)
    run("schedules")
    run("doctor", module="worker", ok=(0, 1))
    run("orphans", "--cancel", module="worker", ok=(0, 1))
    run("--check", "worker.Settings", module="arq")
    run("delete", "second")
    run("delete", "night")
    assert simulator.ledger(summary=True)["uploaded"]
    await eventually(lambda: simulator.ledger(summary=True)["uploads_left"] == 0)
    worker.terminate()
    assert worker.wait() in (0, 1, -15)
    assert refused(server) == []
    assert "NOPERM" not in worker.log()


@pytest.mark.parametrize(
    "lacks", ["-evalsha -eval", "-watch", "-time", "-zrem", "resetkeys ~arq:*", "resetkeys ~replicate-batch:*"]
)
def test_a_worker_that_may_not_do_its_work_says_so_and_does_not_start(
    server: Redis,
    restricted: Config,
    worker_process: Callable[..., Any],
    cli: Callable[..., Any],
    lacks: str,
    tmp_path: Path,
) -> None:
    """It would else run every shard again for ever, each time with a traceback."""
    server.execute_command("ACL", "SETUSER", "replicate-batch", *lacks.split())
    worker = worker_process("--burst", **dict(restricted))
    assert worker.wait() == 2
    assert worker.log().startswith("This Redis does not let its user do what is needed: ")
    assert f"An administrator gives these rights: {ACL_LINE}" in worker.log()
    assert "Traceback" not in worker.log()
    (tmp_path / "night.jsonl").write_text('{"model": "simulator/image", "prompt": "cat"}\n')
    refusal = cli("enqueue", "night.jsonl", **dict(restricted))
    assert (refusal.code, "An administrator gives these rights" in refusal.err) == (2, True)
    findings = cli("doctor", module="worker", **dict(restricted)).out
    assert "an administrator runs: ACL SETUSER" in findings


@pytest.mark.parametrize("trouble", ["rights", "another program"])
async def test_a_worker_whom_redis_refuses_for_good_ends_with_a_sentence(  # noqa: PLR0917 - fixtures
    server: Redis,
    restricted: Config,
    worker_process: Callable[..., Any],
    cli: Callable[..., Any],
    trouble: str,
    tmp_path: Path,
    simulator: Any,
    eventually: Callable[..., Any],
) -> None:
    simulator.settings(predict_min=0.5, predict_max=1.0)
    rows = [{"model": "simulator/image", "prompt": f"cat {n}", **IMAGE} for n in range(200)]
    (tmp_path / "night.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli("enqueue", "night.jsonl", **dict(restricted)).code == 0
    worker = worker_process(**dict(restricted) | {"max_in_flight": 5})
    await eventually(lambda: "←" in worker.log())
    if trouble == "rights":
        server.execute_command("ACL", "SETUSER", "replicate-batch", "-hget", "-zrem")
    else:
        server.delete("replicate-batch:ledger:night")
        server.set("replicate-batch:ledger:night", "mine")
    assert worker.wait() == 2
    assert "Redis refuses what this worker needs, and no retry will help: " in worker.log()
    assert ("ACL SETUSER" if trouble == "rights" else "Another program has written") in worker.log()
    assert worker.log().count("Traceback") == 0


def test_a_cluster_is_refused_in_a_sentence(
    tmp_path: Path, cli: Callable[..., Any], worker_process: Callable[..., Any]
) -> None:
    with socket.socket() as taken, socket.socket() as bus:
        for free in (taken, bus):
            free.bind(("127.0.0.1", 0))
        port, bus_port = taken.getsockname()[1], bus.getsockname()[1]
    home = tmp_path / "cluster"
    home.mkdir()
    # The bus port has to be named: by default it is the port + 10000, and past 65535 the server refuses to start.
    options = {"port": port, "cluster-port": bus_port, "bind": "127.0.0.1", "dir": home, "cluster-enabled": "yes"}
    options |= {"save": "", "logfile": "log"}
    words = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    process = subprocess.Popen([embedded.binary(), *words], cwd=home)
    try:
        url = {"redis_url": SecretStr(f"redis://127.0.0.1:{port}")}
        (tmp_path / "night.jsonl").write_text('{"model": "simulator/image", "prompt": "cat"}\n')
        with Redis(port=port, retry=Retry(ConstantBackoff(0.01), 2000, (RedisError, OSError))) as client:
            client.ping()
        worker = worker_process("--burst", **url)
        assert (worker.wait(), worker.log()) == (2, f"{CLUSTER}\n")
        refusal = cli("enqueue", "night.jsonl", **url)
        assert (refusal.code, refusal.err) == (2, f"Error: {CLUSTER}\n")
        assert CLUSTER in cli("status", **url).err
        assert CLUSTER in cli("doctor", module="worker", **url).out.replace("\n", " ")
    finally:
        process.kill()
        process.wait()
