"""docs/monitoring.md, the alert rules and the Grafana dashboard name the metrics and events that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from jobs.dashboard.metrics import GAUGES, PREFIX
from jobs.wire import Outcome
from worker.telemetry.metrics import REGISTRY

ROOT = Path(__file__).parents[2]
DASHBOARD, ALERTS, PAGE = (ROOT / "docs" / name for name in ("grafana-dashboard.json", "alerts.yml", "monitoring.md"))
METRIC = re.compile(r"\breplicate_batch_\w+")


def metrics() -> set[str]:
    found = (metric.name + ("_total" if metric.type == "counter" else "") for metric in REGISTRY.collect())
    return {name for name in found if METRIC.fullmatch(name)}


def unsuffixed(names: set[str]) -> set[str]:
    histograms = {metric.name for metric in REGISTRY.collect() if metric.type == "histogram"}
    return {
        next((one for one in histograms if re.fullmatch(f"{one}_(bucket|sum|count)", name)), name) for name in names
    }


@pytest.mark.parametrize("path", [DASHBOARD, ALERTS, ROOT / "tests/data/alerts_test.yml"])
def test_every_metric_that_is_named_exists(path: Path) -> None:
    named = unsuffixed(set(METRIC.findall(path.read_text(encoding="utf-8"))))
    assert len(named) >= 8
    assert named <= metrics()


def test_the_page_has_a_row_for_each_metric() -> None:
    rows = re.findall(r"^\| `(replicate_batch_\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted([*metrics(), *(PREFIX + name for name in GAUGES)])


def test_the_page_has_each_event() -> None:
    sources = [path.read_text(encoding="utf-8") for name in ("jobs", "worker") for path in (ROOT / name).rglob("*.py")]
    logged = {event for source in sources for event in re.findall(r'"event": f?"(\w+)', source)}
    assert "prompt_" in logged
    assert len(logged) > 25
    logged = logged - {"prompt_"} | {f"prompt_{outcome}" for outcome in get_args(Outcome)}
    logs = PAGE.read_text(encoding="utf-8").partition("## Logs")[2]
    cells = re.findall(r"^\| (`\w+`(?: · `\w+`)*) \| \S", logs, re.MULTILINE)
    assert sorted(event for cell in cells for event in re.findall(r"\w+", cell)) == sorted(logged)


def test_the_dashboard_has_panels_that_do_not_overlap() -> None:
    dashboard: Any = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    panels = dashboard["panels"]
    places = [
        (x, y)
        for panel in panels
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(target["expr"] for panel in panels for target in panel["targets"])


def test_each_alert_says_what_is_wrong_and_what_to_do() -> None:
    (group,) = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert {"summary", "description"} == set(rule["annotations"])


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool comes with Prometheus")
def test_promtool_agrees() -> None:
    for command, path in (("check", ALERTS), ("test", ROOT / "tests/data/alerts_test.yml")):
        done = subprocess.run(["promtool", command, "rules", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
