from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.logs.facts import log_facts, note_facts
from jobs.logs.formats import JsonFormatter, LineFormatter

FORGED = "no\n2026-01-01 00:00:00+0000 INFO host/1: ● night is finished"


def record(message: object = "hello", *arguments: object, name: str = "worker.prompt.predict", **extra: Any) -> Any:
    level = extra.pop("level", logging.INFO)
    return logging.getLogger(name).makeRecord(
        name, level, __file__, 1, message, arguments, extra.pop("exc_info", None), "settle", extra
    )


def as_json(*arguments: Any, **extra: Any) -> dict[str, Any]:
    line = JsonFormatter().format(record(*arguments, **extra))
    assert line.isascii()
    assert line.isprintable()
    found: dict[str, Any] = json.loads(line, parse_constant=pytest.fail)
    return found


def raised() -> Any:
    try:
        raise ValueError(FORGED)  # noqa: TRY301 - for its traceback
    except ValueError:
        return sys.exc_info()


def test_a_line_is_an_object() -> None:
    line = as_json("%6.2fs ← %s", 1.5, "night/cat", event="prompt_saved", seconds=1.5, cost=0.01, prediction="p1")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line.pop("process").endswith(tuple("0123456789"))
    assert line == {
        "level": "info",
        "event": "prompt_saved",
        "message": "  1.50s ← night/cat",
        "prediction": "p1",
        "seconds": 1.5,
        "cost": 0.01,
        "logger": "worker.prompt.predict",
    }


def test_a_line_without_an_event_has_the_place_in_the_code() -> None:
    assert as_json()["event"] == "predict.settle"


def test_what_libraries_add_is_left_out() -> None:
    line = as_json(name="uvicorn.error", color_message="\x1b[1mhi\x1b[0m", taskName="Task-1", executor=object())
    assert not {"color_message", "taskName", "executor"} & line.keys()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_lacks_is_null(value: float) -> None:
    assert as_json(cost=value)["cost"] is None


@pytest.mark.parametrize("value", [object(), [math.nan], {"a": {1}}, b"\xff"])
def test_any_other_value_is_text(value: object) -> None:
    assert as_json(model=value)["model"] == repr(value)


@given(st.text(st.characters()))
def test_any_text_is_one_line_that_says_it(text: str) -> None:
    assert as_json("%s", text)["message"] == text.encode(errors="replace").decode()


def test_a_traceback_is_inside_the_object() -> None:
    line = as_json("failed", exc_info=raised())
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith(f"ValueError: {FORGED}")


def test_arguments_that_do_not_fit_lose_no_line() -> None:
    assert as_json("%d of %d", "one")["message"] == "%d of %d ('one',)"


def test_a_prompts_lines_have_its_facts_and_those_of_others_have_not() -> None:
    with log_facts(batch="night", prompt="cat"):
        note_facts(prediction="p1")
        line = as_json(name="worker.outputs.download")
        assert (line["batch"], line["prompt"], line["prediction"]) == ("night", "cat", "p1")
        assert "prompt" not in as_json(name="worker.limits.request_gate")
        assert as_json(prompt="dog")["prompt"] == "dog"
    assert "batch" not in as_json()


async def test_facts_go_with_tasks_and_threads() -> None:
    async def one(prompt: str) -> str:
        with log_facts(prompt=prompt):
            await asyncio.sleep(0)
            return str((await asyncio.to_thread(as_json))["prompt"])

    assert list(await asyncio.gather(one("cat"), one("dog"))) == ["cat", "dog"]


def test_note_facts_outside_of_a_block_is_nothing() -> None:
    note_facts(prediction="p1")
    assert "prediction" not in as_json()


def test_a_text_line_keeps_its_form() -> None:
    line = LineFormatter().format(record("%6.2fs ← %s ● %s", 1.5, "night/cat", "1 file"))
    assert re.fullmatch(r"[\d-]{10} [\d:]{8}[+-]\d{4} INFO [^ ]+/\d+:   1\.50s ← night/cat ● 1 file", line)


@pytest.mark.parametrize("extra", [{}, {"exc_info": raised()}])
def test_a_message_can_neither_forge_a_line_nor_steer_the_terminal(extra: dict[str, Any]) -> None:
    line = LineFormatter(color=True).format(record("%s", f"{FORGED}\r\x1b[2J\x9b2J\x85\u2028", **extra))
    first, *others = line.split("\n")
    assert "INFO" in first
    assert all(other.startswith("  ") for other in others)
    assert not set(line) & set("\r\x1b\x9b\x85\u2028")


def test_the_level_is_colored_on_a_terminal() -> None:
    bad = record("WARNING %s", " WARNING ", level=logging.WARNING)
    assert LineFormatter(color=True).format(bad).count("\x1b[33mWARNING\x1b[0m") == 1
    assert "\x1b" not in LineFormatter().format(bad)
