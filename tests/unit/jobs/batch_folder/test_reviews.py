from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.reviews import Review, add_review, last_reviews, read_reviews


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    found = Folder(tmp_path, "night")
    found.path.mkdir()
    return found


def test_the_last_review_of_a_prompt_holds(folder: Folder) -> None:
    add_review(folder, Review(id="cat", rating=2), fsync=False)
    add_review(folder, Review(id="dog", rejected=True, reason="no dog\nin it"), fsync=True)
    add_review(folder, Review(id="cat", rating=5, starred=True), fsync=False)
    found = last_reviews(folder)
    assert {name: review.rating for name, review in found.items()} == {"cat": 5, "dog": 0}
    assert found["dog"].reason == "no dog\nin it"
    assert found["cat"].at.endswith("Z")


def test_what_was_taken_back_is_no_review(folder: Folder) -> None:
    add_review(folder, Review(id="cat", rating=2), fsync=False)
    add_review(folder, Review(id="cat"), fsync=False)
    assert last_reviews(folder) == {}


def test_a_torn_line_costs_only_itself(folder: Folder) -> None:
    add_review(folder, Review(id="cat", rating=2), fsync=False)
    with folder.reviews.open("a") as file:
        file.write('{"id": "dog", "rat')
    assert list(last_reviews(folder)) == ["cat"]
    add_review(folder, Review(id="owl", rating=1), fsync=False)
    assert list(last_reviews(folder)) == ["cat", "owl"]


@pytest.mark.parametrize("line", ["", "[]", '{"id": 1}', '{"id": "cat", "rating": 9}', "\x00", '{"rating": 1}'])
def test_what_is_no_review_is_skipped(folder: Folder, line: str) -> None:
    folder.reviews.write_text(line + "\n")
    assert last_reviews(folder) == {}


def test_only_what_was_added_is_read_again(folder: Folder) -> None:
    add_review(folder, Review(id="cat", rating=2), fsync=False)
    ((_, end),) = read_reviews(folder)
    add_review(folder, Review(id="dog", rating=1), fsync=False)
    assert [review.id for review, _ in read_reviews(folder, end)] == ["dog"]


def test_a_batch_without_reviews_has_none(folder: Folder) -> None:
    assert last_reviews(folder) == {}


@pytest.mark.parametrize("values", [{"rating": 6}, {"rating": -1}, {"reason": "x" * 1001}])
def test_a_review_that_cannot_be_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Review.model_validate({"id": "cat", **values})


@given(st.text(st.characters(codec="utf-8"), max_size=50))
def test_any_reason_comes_back(tmp_path_factory: pytest.TempPathFactory, reason: str) -> None:
    folder = Folder(tmp_path_factory.getbasetemp(), "any")
    folder.path.mkdir(exist_ok=True)
    add_review(folder, Review(id="cat", rejected=True, reason=reason), fsync=False)
    assert last_reviews(folder)["cat"].reason == reason
    assert json.loads(folder.reviews.read_bytes().splitlines()[-1])["id"] == "cat"
