"""How loose bodies are: never so loose that nobody can tell what they are about."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.models.registry import MODELS
from simulator.predictions import Prediction
from simulator.process import RunningSimulator
from simulator.rendering import Loose, View, looseness, prediction_body

Create = Callable[..., dict[str, Any]]

MODEL = MODELS["simulator/text"]
EVERYTHING = sum(Loose)


def body(now: float = 20.0, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": "a" * 26,
        "number": 0,
        "model": MODEL,
        "via": "official",
        "asked": MODEL.full_name,
        "input": {"text": "x"},
        "created": 0.0,
        "starts": 5.0,
        "finish": 10.0,
    }
    prediction = Prediction(**(values | changes))
    text = prediction_body(prediction, View("http://api", "http://files", now, 100.0))
    parsed: dict[str, Any] = json.loads(text)
    return parsed


@given(st.integers(0, EVERYTHING), st.sampled_from(["official", "version", "deployment"]), st.floats(0, 200))
def test_what_a_client_needs_is_always_there(loose: int, via: str, now: float) -> None:
    seen = body(now, loose=loose, via=via)
    assert {"id", "status", "urls", "created_at", "input", "error"} <= set(seen)
    assert "get" in seen["urls"]
    assert seen.get("model") == MODEL.full_name or seen.get("version") == MODEL.version
    if seen["status"] == "succeeded":
        assert seen.get("output") == "x" or seen["data_removed"] is True


def test_strict_bodies_have_every_key() -> None:
    assert set(body()) == {
        *("id", "model", "version", "input", "logs", "output", "data_removed", "error", "source", "status"),
        *("created_at", "started_at", "completed_at", "metrics", "urls"),
    }


@pytest.mark.parametrize(
    ("loose", "missing"),
    [
        (Loose.NO_METRICS, "metrics"),
        (Loose.NO_STARTED_AT, "started_at"),
        (Loose.NO_COMPLETED_AT, "completed_at"),
        (Loose.NO_DATA_REMOVED, "data_removed"),
    ],
)
def test_keys_may_be_missing(loose: int, missing: str) -> None:
    assert set(body()) - set(body(loose=loose)) == {missing}


def test_names_and_nulls_may_differ() -> None:
    assert "output" not in body(0.0, loose=Loose.NO_NULL_OUTPUT)
    assert body(loose=Loose.NULL_LOGS)["logs"] is None
    assert body(loose=Loose.EMPTY_ERROR)["error"] == ""
    assert body(loose=Loose.OTHER_VERSION)["version"] == MODEL.version
    assert body(loose=Loose.OTHER_MODEL, via="version")["model"] == "simulator/text-renamed"
    assert "model" not in body(loose=Loose.NO_MODEL, via="version")
    assert "web" not in body(loose=Loose.NO_WEB)["urls"]


@pytest.mark.parametrize(("loose", "digits"), [(0, 6), (Loose.MILLISECONDS, 3), (Loose.NANOSECONDS, 9)])
def test_fractions_of_seconds_have_3_6_or_9_digits(loose: int, digits: int) -> None:
    assert re.fullmatch(rf"1970-01-01T00:00:10\.0{{{digits}}}Z", str(body(loose=loose)["completed_at"]))


def test_a_key_may_come_twice() -> None:
    prediction = Prediction(
        id="b",
        number=0,
        model=MODEL,
        via="official",
        asked="x",
        input={},
        created=0,
        starts=0,
        finish=0,
        loose=Loose.KEY_TWICE,
    )
    pairs = json.loads(prediction_body(prediction, View("", "", 1.0, 9.0)), object_pairs_hook=list)
    assert [name for name, _ in pairs].count("id") == 2


def test_looseness_is_seeded() -> None:
    runs = [[looseness(Random(3), 0.5) for _ in range(1)], [looseness(Random(3), 0.5)]]
    assert runs[0] == runs[1]
    assert looseness(Random(1), 0.0) == 0
    assert looseness(Random(1), 1.0) == EVERYTHING


def test_bodies_over_http_are_loose_by_chance(plain: RunningSimulator, create: Create) -> None:
    plain.settings(loose=0.5)
    seen = [frozenset(create("simulator/text", {"seed": seed})) for seed in range(30)]
    assert len(set(seen)) > 5
    plain.settings(loose=0.0)
    seen = [frozenset(create("simulator/text", {"seed": seed})) for seed in range(3)]
    assert all(one == other for one, other in itertools.pairwise(seen))
