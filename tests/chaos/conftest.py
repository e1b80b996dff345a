from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.config import Config
from tests.chaos import matrix
from tests.chaos.judgement import Judgement
from tests.chaos.servers import RedisServer, redis_server
from tests.chaos.trial import SHORT, Trial

QUICK = {"limiter": "off", "predict_min": 0.05, "predict_max": 0.4, "queue_max": 0.05}
FAST = {"creates_per_minute": 6000.0, "reads_per_minute": 60_000.0, "poll_interval": 0.1, "max_attempts": 6}
DEFAULT_SEED = 1


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--matrix", type=Path, help="Write the matrix as Markdown.")
    group.addoption("--chaos-seed", type=int, help="The seed of all cases.")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    rows = matrix.rows_of(terminalreporter.stats)
    if rows:
        terminalreporter.section("faults and their outcome")
        terminalreporter.write_line("\n".join(matrix.text(rows)))
        if path := terminalreporter.config.getoption("matrix", None):
            matrix.write(rows, path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def redis_url(server: RedisServer) -> str:
    return server.url


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    given = request.config.getoption("chaos_seed", None)
    return DEFAULT_SEED if given is None else int(given)


@pytest.fixture
def simulator(seed: int) -> Iterator[Any]:
    from simulator.process import running  # noqa: PLC0415 - as in the other tests

    with running(seed=seed, **QUICK) as simulator:
        yield simulator


@pytest.fixture
def trial(
    request: pytest.FixtureRequest,
    *,
    config: Config,
    simulator: Any,
    server: RedisServer,
    nursery: Any,
    seed: int,
    environment_of: Callable[[Config], dict[str, str]],
) -> Trial:
    """A batch for one case. Leases last 1.5 s and the search for a lost create 6 s, unless the case says otherwise."""
    return Trial(
        name=request.node.name,
        seed=seed,
        config=config.model_copy(update={**FAST, "lease": 1.5}),
        simulator=simulator,
        server=server,
        nursery=nursery,
        environment=environment_of,
        timing=dict(SHORT),
    )


@pytest.fixture
def judged(record_property: Callable[[str, Any], None]) -> Callable[[Trial, str], Judgement]:
    """`judged(trial, "what was done")`: take faults back, look at everything, note it for the matrix, fail or not."""
    order = itertools.count()

    def judge(trial: Trial, case: str) -> Judgement:
        trial.simulator.clear()
        judgement = Judgement(trial)
        complaints = judgement.judge()
        record_property(matrix.PROPERTY, {"order": f"{case} {next(order)}", **row(trial, judgement, case)})
        assert not complaints, "\n".join(complaints[:30])
        return judgement

    return judge


def row(trial: Trial, judgement: Judgement, case: str) -> dict[str, Any]:
    cures = (f"{count} {what}" for what, count in trial.cures.items())
    return {
        "case": case,
        "done": ", ".join(f"{count} {what}" for what, count in trial.done.items()),
        "prompts": len(judgement.prompts),
        "lost": judgement.lost,
        "paid_twice": judgement.paid_twice,
        "unknown": judgement.unknown,
        "unclaimed": len(judgement.unclaimed),
        "orphans": judgement.orphans,
        "uploads": judgement.ledger["uploaded"],
        "uploads_left": judgement.ledger["uploads_left"],
        "taken_over": f"{trial.taken_over_at - trial.fault_at:.1f}",
        "finished": f"{trial.finished_at - trial.fault_at:.1f}",
        "seed": trial.seed,
        "notes": "; ".join([*trial.shrunk, *cures]),
    }
