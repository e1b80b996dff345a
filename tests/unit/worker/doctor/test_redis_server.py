"""What the doctor makes of a server's facts: a table of verdicts."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from worker.doctor import network
from worker.doctor.finding import Finding
from worker.doctor.redis_server import _clock, _eviction, _memory, _persistence, _version

AOF = {"aof_enabled": 1, "aof_last_write_status": "ok"}


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        (_version({"redis_version": "7.2.4"}, 0.001), "ok"),
        (_version({"redis_version": "4.0.14"}, 0.001), "failure"),
        (_version({"server_name": "valkey", "valkey_version": "8.0.1", "redis_version": "7.2.4"}, 0.5), "warning"),
        (_version({}, 0.001), "ok"),
        (_persistence(AOF, {"appendfsync": "always"}), "ok"),
        (_persistence(AOF, {}), "warning"),
        (_persistence(AOF | {"aof_last_write_status": "err"}, {"appendfsync": "always"}), "failure"),
        (_persistence({}, {}), "failure"),
        (_eviction({"maxmemory_policy": "noeviction"}), "ok"),
        (_eviction({"maxmemory_policy": "volatile-ttl"}), "failure"),
        (_eviction({}), "warning"),
        (_memory({"used_memory": 50, "maxmemory": 100}), "ok"),
        (_memory({"used_memory": 85, "maxmemory": 100}), "warning"),
        (_memory({"used_memory": 99, "maxmemory": 100}), "failure"),
        (_memory({"used_memory": 50, "total_system_memory": 60}), "warning"),
        (_memory({"used_memory": 50}), "ok"),
        (_clock(0.3), "ok"),
        (_clock(-5), "warning"),
        (_clock(100), "failure"),
        ([network.clock_finding(0.4)], "ok"),
        ([network.clock_finding(0.0)], "warning"),
        ([network.clock_finding(-30)], "warning"),
        ([network.clock_finding(500)], "failure"),
    ],
)
def test_verdicts(findings: Iterable[Finding], verdict: str) -> None:
    (found,) = findings
    assert found.verdict == verdict
    assert verdict == "ok" or found.cure or "no date" in found.message
