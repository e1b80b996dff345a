from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.input_files.reference import FileReference, with_files
from jobs.replicate_api.predictions import Prediction
from jobs.wire import Prompt
from worker.orphans.matching import UploadIds, could_serve

CAT, DOG = FileReference("/cat.png", "ca" * 32, 3), FileReference("/dog.png", "d0" * 32, 3)
IDS: UploadIds = {CAT.sha256: {"c1", "c2"}, DOG.sha256: {"d1"}}
HOST = "https://api.replicate.com/v1/files"


def serves(given_: Any, wanted: dict[str, Any], uploads: UploadIds | None = IDS) -> bool:
    prediction = Prediction("p1", "starting", {"input": given_, "model": "a/b"})
    return could_serve(prediction, Prompt(0, "x", "a/b", wanted), uploads)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (f"{HOST}/c1", True),
        (f"{HOST}/c2/download?expiry=1&owner=x&signature=a%252Fb%253D", True),
        ("https://gateway.example/replicate/v1/files/c1", True),
        (f"{HOST}/d1", False),
        (f"{HOST}/c3", False),
        ("https://example.com/c1.png", False),
        ("/cat.png", False),
        (None, False),
        ([f"{HOST}/c1"], False),
        (CAT.as_value(), False),
    ],
)
def test_a_file_equals_the_url_of_any_of_its_uploads(given_: Any, *, expected: bool) -> None:
    wanted = {"image": CAT.as_value(), "seed": 7}
    assert serves({"image": given_, "seed": 7.0}, wanted) is expected
    assert not serves({"image": given_, "seed": 8}, wanted)
    assert not serves({"image": given_}, wanted)
    assert not serves({"image": given_, "seed": 7, "more": 1}, wanted)
    assert not serves({"image": given_, "seed": 7}, wanted, {})


def test_files_are_compared_wherever_they_are() -> None:
    wanted = {"images": [CAT.as_value(), DOG.as_value()], "options": {"mask": DOG.as_value()}}
    shown = {"images": [f"{HOST}/c1", f"{HOST}/d1"], "options": {"mask": f"{HOST}/d1"}}
    assert serves(shown, wanted)
    assert not serves(shown | {"images": [f"{HOST}/d1", f"{HOST}/c1"]}, wanted)
    assert not serves(shown | {"images": [f"{HOST}/c1"]}, wanted)
    assert serves(shown | {"images": [f"{HOST}/x", f"{HOST}/y"]}, wanted | {"options": shown["options"]}, None)


def test_a_url_in_the_row_itself_is_no_file() -> None:
    assert serves({"image": f"{HOST}/c1"}, {"image": f"{HOST}/c1"})
    assert not serves({"image": f"{HOST}/c2"}, {"image": f"{HOST}/c1"})
    assert not serves({"image": f"{HOST}/c2"}, {"image": f"{HOST}/c1"}, None)


ID = "NGZiNmY2YzQtMThhZi00ZjcyLWFhZjktODg4NTY0NWNlMDEy"


@pytest.mark.parametrize("sent", [f"{HOST}/{ID}", f"{HOST}/{ID}/download?expiry=1&owner=x&signature=b"])
@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (f"{HOST}/{ID}", True),
        (f"{HOST}/{ID}/download?expiry=2&owner=x&signature=a%252Fb%253D", True),
        (f"{HOST}/{ID[::-1]}/download?expiry=2&owner=x&signature=a%252Fb%253D", False),
        (f"{HOST}/{ID}/other", False),
        (f"https://example.com/files/{ID}", False),
        (f"the file is {HOST}/{ID}", False),
        (None, False),
    ],
)
def test_an_upload_of_the_user_is_found_by_its_id(sent: str, shown: Any, *, expected: bool) -> None:
    """The API shows another URL of it than it was sent."""
    assert serves({"image": shown, "more": [shown]}, {"image": sent, "more": [sent]}) is expected
    assert not serves({"image": "https://example.com/files/1/b.png"}, {"image": "https://example.com/files/1/a.png"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from([CAT.as_value(), DOG.as_value()]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=3), json_values, max_size=4))
def test_what_was_sent_is_found(wanted: dict[str, Any]) -> None:
    sent = with_files(wanted, lambda reference: f"{HOST}/{min(IDS[reference.sha256])}?signature=x")
    assert serves(sent, wanted)
    assert serves(sent, wanted, None)
