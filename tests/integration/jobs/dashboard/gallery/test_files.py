from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

PNG = {"path": "cat/output.png", "url": "u", "bytes": 9, "sha256": "0"}


CAT, DOG = ({"id": one, "input": {"prompt": one}} for one in ("cat", "dog"))


@pytest.mark.parametrize(
    ("name", "media_type", "is_shown"),
    [
        ("output.png", "image/png", True),
        ("output.svg", "image/svg+xml", True),
        ("output.html", "application/octet-stream", False),
        ("output.xhtml", "application/octet-stream", False),
        ("output.js", "application/octet-stream", False),
        ("output.json", "text/plain", True),
        ("output", "application/octet-stream", False),
    ],
)
async def test_files_are_inert(night: Any, browser: Any, name: str, media_type: str, *, is_shown: bool) -> None:
    night.write_rows(CAT)
    file = {**PNG, "path": f"cat/{name}"}
    (night.write_record(0, "cat", files=[file]) / name).write_text("<script>alert(1)</script>")
    found = await browser.get(f"/batches/night/files/cat/{name}")
    assert found.headers["content-type"].startswith(media_type)
    assert ("attachment" not in found.headers.get("content-disposition", "")) is is_shown
    assert "sandbox" in found.headers["content-security-policy"]
    assert found.headers["x-content-type-options"] == "nosniff"


async def test_only_files_that_a_record_names_are_served(night: Any, browser: Any, tmp_path: Path) -> None:
    night.write_rows(CAT, DOG)
    secret = tmp_path / "secret.png"
    secret.write_text("secret")
    directory = night.write_record(0, "cat", files=[PNG, {**PNG, "path": "cat/../../secret.png"}, {**PNG, "path": "x"}])
    (directory / "output.png").symlink_to(secret)
    (directory / "unnamed.png").write_text("no")
    for path in (
        "cat/output.png",
        "cat/unnamed.png",
        "cat/../../secret.png",
        "cat/%2e%2e/%2e%2e/secret.png",
        "cat/",
        "x",
    ):
        found = await browser.get(f"/batches/night/files/{path}")
        assert found.status_code == 404, path
        assert "secret" not in found.text.replace("secret.png", "")
    for path in ("batch.json", "prompts.jsonl", "dog/prediction.json"):
        assert (await browser.get(f"/batches/night/files/{path}")).status_code == 404, path
    assert (await browser.get("/batches/night/files/cat/prediction.json?download")).headers["content-disposition"]
