from __future__ import annotations

import pytest

from jobs.config import Config
from jobs.errors import ConfigError
from jobs.model_limits import ModelLimit, ModelLimits

VERSION = "a" * 64


def test_limits_are_by_model_and_hold_for_its_versions() -> None:
    text = f"a/b=60/min, a/video=max 5,\na/other = 1 / min  max 10, {VERSION}=1/min"
    limits = ModelLimits.parse(text)
    assert limits.of("a/b") == ModelLimit("a/b", 60, None)
    assert limits.of(f"a/b:{VERSION}") == ModelLimit("a/b", 60, None)
    assert limits.of("a/video") == ModelLimit("a/video", None, 5)
    assert limits.of("a/other") == ModelLimit("a/other", 1, 10)
    assert limits.of(VERSION) == ModelLimit(VERSION, 1, None)
    assert limits.of("a/c") is None
    assert ModelLimits.parse(str(limits)) == limits
    assert ModelLimits.parse("") == ModelLimits()


@pytest.mark.parametrize(
    "text",
    [
        "a/b",
        "a/b=",
        "a/b=5",
        "a/b=5/s",
        "a/b=max",
        "a/b=max 0",
        "a/b=0/min",
        "a/b=max 5 60/min",
        "b=1/min",
        "a/b=.5/min",
    ],
)
def test_what_is_no_limit_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=text.partition("=")[0]):
        ModelLimits.parse(f"x/y=1/min, {text}")


def test_two_limits_of_one_model_are_refused() -> None:
    with pytest.raises(ValueError, match="already"):
        ModelLimits.parse("a/b=1/min, a/b=max 2")


def test_the_setting_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_MODEL_LIMITS", "a/b=60/min max 2")
    assert Config.load().model_limits.of("a/b") == ModelLimit("a/b", 60, 2)
    monkeypatch.setenv("BATCH_MODEL_LIMITS", "a/b=60")
    with pytest.raises(ConfigError, match="BATCH_MODEL_LIMITS"):
        Config.load()
