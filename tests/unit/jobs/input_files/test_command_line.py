"""Paths of --input and --each count from the current folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.expansion.value_list import read_values
from jobs.input_files.command_line import with_absolute_paths


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "stills").mkdir()
    (tmp_path / "stills" / "a.png").touch()
    (tmp_path / "someone").touch()
    (tmp_path / "link").symlink_to("stills")
    (tmp_path / "circle").symlink_to("circle")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("@stills/a.png", "@{here}/stills/a.png"),
        ("@link/../link/a.png", "@{here}/stills/a.png"),
        ("@someone", "@{here}/someone"),
        ("stills/a.png", "{here}/stills/a.png"),
        ("@gone.png", "@{here}/gone.png"),
        ("@./stills", "@{here}/stills"),
    ],
)
def test_paths_become_absolute(here: Path, value: str, expected: str) -> None:
    path = expected.format(here=here)
    assert with_absolute_paths("image", value) == path
    assert with_absolute_paths("images", [value, {"face": value}, 1]) == [path, {"face": path}, 1]


@pytest.mark.parametrize(
    "value",
    [
        *("@stills", "@nobody", "@john.doe", "stills", "someone", "gone.png", "K.EULER", "circle/a.png"),
        *("https://a.test/b.png", "data:,x", "@/nowhere/a.png", "@~/gone.png", 7, None, True),
    ],
)
@pytest.mark.usefixtures("here")
def test_other_values_stay_as_they_are(value: Any) -> None:
    assert with_absolute_paths("image", value) == value


@pytest.mark.usefixtures("here")
def test_a_text_for_people_stays_as_it_is() -> None:
    assert with_absolute_paths("prompt", "@someone") == "@someone"
    assert with_absolute_paths("messages", [{"content": "@someone"}]) == [{"content": "@someone"}]


def test_an_id_has_a_path_as_it_is_given(here: Path) -> None:
    found = dict(read_values(text := "image=@stills/a.png,@gone.png", with_absolute_paths).values())
    assert list(found) == [f"@{here}/stills/a.png", f"@{here}/gone.png"]
    assert list(found.values()) == [name for _, name in read_values(text).values()]
