"""How many requests a worker made within the last minute, by the counters of its metrics."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from worker.telemetry import metrics

MINUTE = 60.0


class Pace:
    """Requests to Replicate's API within the last minute, by bucket (`create`, `read`); seen at each heartbeat."""

    def __init__(self) -> None:
        self._seen = deque[tuple[float, Mapping[str, int]]]()

    def look(self, now: float, totals: Mapping[str, int]) -> Mapping[str, int]:
        """The requests since the look that is a minute old, or since the first one."""
        self._seen.append((now, totals))
        while len(self._seen) > 1 and self._seen[1][0] <= now - MINUTE:
            self._seen.popleft()
        _, before = self._seen[0]
        return {bucket: total - before.get(bucket, 0) for bucket, total in totals.items()}


def requests_made() -> Mapping[str, int]:
    """All requests of this process that were sent, by bucket."""
    found: dict[str, int] = {}
    for family in metrics.REQUESTS.collect():
        for sample in family.samples:
            if sample.name.endswith("_total") and sample.labels["status"] != "not_sent":
                bucket = sample.labels["bucket"]
                found[bucket] = found.get(bucket, 0) + int(sample.value)
    return found
