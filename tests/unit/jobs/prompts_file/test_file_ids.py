from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.names import is_prompt_id
from jobs.prompts_file.file_ids import FileIds


def take(*names: str) -> list[str]:
    ids = FileIds()
    return [ids.take(name) for name in names]


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["a.png", "sub/a.png", "sub/deep/a b.png"], ["a", "sub-a", "sub-deep-a-b"]),
        (["a.jpg", "a.png", "A.JPG"], ["a", "a-png", "A-JPG"]),
        (["photo.v1.png", "IMG_0001.HEIC", "noext"], ["photo.v1", "IMG_0001", "noext"]),
        (["index.html.png", "batch.json.png"], ["index.html-png", "batch.json-png"]),
        (["x/a.png", "x-a.png"], ["x-a", "x-a-png"]),
    ],
)
def test_ids_after_names(names: list[str], ids: list[str]) -> None:
    assert take(*names) == ids


def test_an_id_does_not_depend_on_how_accents_are_stored() -> None:
    composed, decomposed = (unicodedata.normalize(form, "café.png") for form in ("NFC", "NFD"))
    assert take(composed) == take(decomposed)
    assert len(set(take(composed, decomposed))) == 2, "both may lie in one folder"


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=60), max_size=20))
def test_any_names_have_ids_of_their_own(names: list[str]) -> None:
    ids = take(*names)
    assert all(map(is_prompt_id, ids))
    assert len({one.lower() for one in ids}) == len(names)
    assert take(*names) == ids
