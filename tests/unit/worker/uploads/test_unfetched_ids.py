from __future__ import annotations

import pytest

from worker.uploads.uploader import unfetched_ids

URL = "https://api.replicate.com/v1/files/NGZiNmY2YzQt"
SIGNED = f"{URL}/download?expiry=1729618342&owner=me&signature=wfYri%252B404%253D"


@pytest.mark.parametrize(
    ("error", "ids"),
    [
        (f"404 Client Error: Not Found for url: {URL}", {"NGZiNmY2YzQt"}),
        (f"404 Client Error: Not Found for url: {SIGNED}", {"NGZiNmY2YzQt"}),
        (f"HTTP Error 403: Forbidden ('{SIGNED}')", {"NGZiNmY2YzQt"}),
        (f"{URL}: 410 Gone, {URL}2: 410 Gone", {"NGZiNmY2YzQt", "NGZiNmY2YzQt2"}),
        ("404 Client Error: Not Found for url: https://example.com/a.png", set()),
        (f"cannot identify image file {SIGNED}", set()),
        (f"cannot identify image file https://api/v1/files/404 with {SIGNED.replace('NGZ', '404')}", set()),
        ("404: Not Found", set()),
        ("", set()),
    ],
)
def test_an_error_names_what_was_not_to_be_had(error: str, ids: set[str]) -> None:
    assert unfetched_ids(error) == ids
