from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import psutil
import pytest

from simulator.models.file_contents import draw_picture, encode_image
from simulator.process import RunningSimulator

Create = Callable[..., dict[str, Any]]
PICTURE = encode_image(draw_picture("seed", "", (6, 4)), "png")
NOT_FOUND = "404 Client Error: Not Found for url: "


@pytest.fixture
def upload(api: httpx.Client) -> dict[str, Any]:
    answer = api.post(
        "/v1/files", files={"content": ("a.txt", b"hello", "text/plain")}, data={"metadata": '{"customer": 1}'}
    )
    assert answer.status_code == 201
    body: dict[str, Any] = answer.json()
    return body


@pytest.fixture
def send(api: httpx.Client) -> Callable[..., dict[str, Any]]:
    def post(content: bytes = PICTURE, name: str = "a.png") -> dict[str, Any]:
        body: dict[str, Any] = api.post("/v1/files", files={"content": (name, content)}).json()
        return body

    return post


def test_an_upload_is_described(api: httpx.Client, upload: dict[str, Any]) -> None:
    assert upload["checksums"]["sha256"] == hashlib.sha256(b"hello").hexdigest()
    assert upload["etag"] == upload["checksums"]["md5"] == hashlib.md5(b"hello", usedforsecurity=False).hexdigest()
    assert (upload["name"], upload["size"], upload["content_type"]) == ("a.txt", 5, "text/plain")
    assert upload["metadata"] == {"customer": 1}
    assert api.get(upload["urls"]["get"]).json() == upload
    assert api.get("/v1/files").json() == {"next": None, "previous": None, "results": [upload]}


def test_metadata_may_be_a_part_with_a_file_name(api: httpx.Client) -> None:
    parts = [("content", ("a.txt", b"")), ("metadata", ("blob", b'{"customer": 1}'))]
    upload = api.post("/v1/files", files=parts).json()
    assert (upload["metadata"], upload["size"]) == ({"customer": 1}, 0)


def test_the_list_has_pages_newest_first(api: httpx.Client, send: Callable[..., dict[str, Any]]) -> None:
    ids = [send(name=f"{number}.png")["id"] for number in range(101)]
    first = api.get("/v1/files").json()
    second = api.get(first["next"]).json()
    assert [each["id"] for each in [*first["results"], *second["results"]]] == ids[::-1]
    assert (len(first["results"]), second["next"]) == (100, None)


def test_its_url_may_be_signed(plain: RunningSimulator, send: Callable[..., dict[str, Any]]) -> None:
    plain.settings(sign_uploads=1.0)
    url = send()["urls"]["get"]
    assert httpx.get(url, trust_env=False).content == PICTURE
    for part in ("expiry=", "owner=", "signature="):
        assert httpx.get(url.replace(part, f"{part}1"), trust_env=False).status_code == 404
    assert httpx.get(url.partition("?")[0], trust_env=False).status_code == 404
    plain.advance(24 * 3600 + 1)
    assert httpx.get(url, trust_env=False).status_code == 404


def test_it_can_be_deleted_once(api: httpx.Client, upload: dict[str, Any]) -> None:
    assert [api.delete(upload["urls"]["get"]).status_code for _ in range(2)] == [204, 404]
    assert api.get(upload["urls"]["get"]).json()["detail"] == "File not found"


def test_it_expires_after_a_day(plain: RunningSimulator, api: httpx.Client, upload: dict[str, Any]) -> None:
    plain.advance(24 * 3600 - 60)
    assert api.get(upload["urls"]["get"]).status_code == 200
    plain.advance(61)
    assert api.get(upload["urls"]["get"]).status_code == 404
    assert api.get("/v1/files").json()["results"] == []


@pytest.mark.parametrize("size", [101, 50_000])
def test_a_large_one_is_413(plain: RunningSimulator, api: httpx.Client, size: int) -> None:
    plain.settings(max_upload=100)
    answer = api.post("/v1/files", files={"content": ("a.bin", bytes(size))})
    assert (answer.status_code, answer.json()["detail"]) == (413, "Files must be less than 100MB in size")
    assert api.post("/v1/files", files={"content": ("a.bin", bytes(100))}).status_code == 201


def test_large_contents_are_not_in_memory(plain: RunningSimulator, api: httpx.Client, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(90_000_000)
    before = psutil.Process(plain.pid).memory_info().rss
    for _ in range(3):
        with path.open("rb") as file:
            assert api.post("/v1/files", files={"content": file}, timeout=60).json()["size"] == 90_000_000
    assert psutil.Process(plain.pid).memory_info().rss - before < 60_000_000


def test_content_is_required(api: httpx.Client) -> None:
    answer = api.post("/v1/files", data={"content": "text"}, files={"other": b"x"})
    assert (answer.status_code, answer.json()["invalid_fields"][0]["field"]) == (422, "content")


def test_a_body_that_is_no_multipart_is_refused(api: httpx.Client) -> None:
    answer = api.post("/v1/files", content=b"x", headers={"content-type": "multipart/form-data"})
    assert answer.status_code == 400


def test_a_name_has_at_most_255_bytes(api: httpx.Client) -> None:
    answers = [api.post("/v1/files", files={"content": (name, b"x")}) for name in ("é" * 127, "é" * 128)]
    assert [answer.status_code for answer in answers] == [201, 422]


@pytest.mark.parametrize("metadata", ["{", "[]", "1"])
def test_metadata_is_a_json_object(api: httpx.Client, metadata: str) -> None:
    answer = api.post("/v1/files", files={"content": b"x"}, data={"metadata": metadata})
    assert (answer.status_code, answer.json()["invalid_fields"][0]["field"]) == (422, "metadata")


@pytest.mark.parametrize("signed", [0.0, 1.0])
def test_the_ledger_says_which_uploads_a_prediction_used(
    plain: RunningSimulator, create: Create, send: Callable[..., dict[str, Any]], signed: float
) -> None:
    plain.settings(sign_uploads=signed)
    first, second = send(), send()
    url = first["urls"]["get"]
    made = create("simulator/collage", {"images": [url, second["urls"]["get"], url]})
    ledger = plain.ledger()
    assert (made["status"], made["error"]) == ("succeeded", None)
    assert ledger["creates"][0]["uploads"] == [first["id"], second["id"]]
    assert [(row["id"], row["sha256"], row["used_by"]) for row in ledger["uploads"]] == [
        (each["id"], hashlib.sha256(PICTURE).hexdigest(), [made["id"]]) for each in (first, second)
    ]
    assert (ledger["uploaded"], ledger["uploads_left"], ledger["unfetched"]) == (2, 2, 0)


def test_equal_contents_are_equal_inputs(
    plain: RunningSimulator, create: Create, send: Callable[..., dict[str, Any]]
) -> None:
    made = [create("simulator/upscale", {"image": send(content)["urls"]["get"]}) for content in (PICTURE, PICTURE)]
    assert [group["ids"] for group in plain.ledger()["groups"]] == [[each["id"] for each in made]]


def test_a_prediction_shows_other_urls_of_its_uploads(
    plain: RunningSimulator, api: httpx.Client, create: Create, send: Callable[..., dict[str, Any]]
) -> None:
    upload = send()
    sent = upload["urls"]["get"]
    made = create("simulator/upscale", {"image": sent})
    assert api.get(made["urls"]["get"]).json()["input"] == {"image": sent}
    plain.settings(sign_uploads=1.0)
    shown = create("simulator/upscale", {"image": sent})["input"]["image"]
    assert urlsplit(shown).path == f"/v1/files/{upload['id']}/download"
    assert "%25" in shown
    assert unquote(parse_qs(urlsplit(shown).query)["signature"][0]).endswith("=")
    assert create("simulator/upscale", {"image": shown})["status"] == "succeeded"
    assert [row["input"] for row in plain.ledger()["creates"][:2]] == [{"image": sent}] * 2


@pytest.mark.parametrize("how", ["unknown", "deleted", "expired", "forged"])
def test_a_prediction_fails_when_its_upload_is_not_there(
    plain: RunningSimulator, api: httpx.Client, create: Create, send: Callable[..., dict[str, Any]], how: str
) -> None:
    url = send()["urls"]["get"]
    if how == "deleted":
        api.delete(url)
    plain.advance(24 * 3600 + 1 if how == "expired" else 0)
    ends = {"unknown": "0", "forged": "/download?expiry=9999999999&owner=simulator&signature=x"}
    url += ends.get(how, "")
    made = create("simulator/everything", {"image": "data:,", "references": [url]})
    assert (made["status"], made["error"]) == ("failed", NOT_FOUND + url)
    ledger = plain.ledger()
    assert (ledger["unfetched"], ledger["creates"][0]["unfetched"]) == (1, [url])
    assert create("simulator/everything", {"prompt": url})["status"] == "succeeded"


def test_it_can_be_deleted_once_the_prediction_has_started(
    plain: RunningSimulator, api: httpx.Client, create: Create, send: Callable[..., dict[str, Any]]
) -> None:
    url = send()["urls"]["get"]
    slow = {"image": url, "queue_time": 0, "predict_time": 100}
    made = [create("simulator/upscale", values) for values in (slow, slow | {"queue_time": 50})]
    api.delete(url)
    plain.advance(200)
    ended = [api.get(each["urls"]["get"]).json() for each in made]
    assert [each["status"] for each in ended] == ["succeeded", "failed"]
    assert ended[1]["error"] == NOT_FOUND + url
    assert httpx.get(ended[0]["output"], trust_env=False).status_code == 200


def test_it_may_expire_before_a_prediction_starts(
    plain: RunningSimulator, create: Create, send: Callable[..., dict[str, Any]]
) -> None:
    plain.control(short_upload={"next": 1, "seconds": 30})
    upload = send()
    assert create("simulator/upscale", {"image": upload["urls"]["get"]})["status"] == "succeeded"
    create("simulator/upscale", {"image": upload["urls"]["get"], "queue_time": 40})
    assert plain.ledger()["unfetched"] == 1
    assert plain.ledger()["uploads"][0]["expires_at"] < plain.ledger()["uploads"][0]["created_at"] + 31


def test_its_content_can_be_stored_wrong(plain: RunningSimulator, send: Callable[..., dict[str, Any]]) -> None:
    plain.control(wrong_upload={"next": 1})
    assert [send()["checksums"]["sha256"] == hashlib.sha256(PICTURE).hexdigest() for _ in range(2)] == [False, True]


def test_its_answer_can_lack_fields(plain: RunningSimulator, send: Callable[..., dict[str, Any]]) -> None:
    plain.control(bare_upload={"next": 1})
    full = {"id", "name", "content_type", "size", "etag", "checksums", "metadata", "created_at", "expires_at", "urls"}
    assert full - set(send()) == {"checksums", "expires_at", "etag"}
    plain.control(bare_upload={"next": 1, "hidden": ["urls"]})
    assert full - set(send()) == {"urls"}
    assert full == set(send())


@pytest.mark.parametrize(
    "faults",
    [
        {"cut_upload": {"next": 1}},
        {"cut_upload": {"next": 1, "fraction": 1.0}},
        {"reset": {"next": 1}},
        {"lost_answer": {"next": 1, "how": "reset"}},
    ],
)
def test_its_connection_can_be_cut(plain: RunningSimulator, api: httpx.Client, faults: dict[str, Any]) -> None:
    plain.control(**faults)
    with pytest.raises(httpx.TransportError):
        api.post("/v1/files", files={"content": ("a.bin", bytes(3_000_000))})
    assert plain.ledger()["uploaded"] == int("lost_answer" in faults)


def test_a_body_that_ends_too_soon_stores_nothing(plain: RunningSimulator, api: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="content"; filename="a"\r\n\r\n'
        raise InterruptedError

    headers = {"content-type": "multipart/form-data; boundary=x", "content-length": "1000"}
    with pytest.raises(InterruptedError):
        api.post("/v1/files", content=pieces(), headers=headers)
    assert plain.ledger()["uploaded"] == 0


def test_any_page_can_be_its_answer(plain: RunningSimulator, api: httpx.Client) -> None:
    plain.control(error={"next": 1, "kinds": ["upload"], "status": 200, "form": "html"})
    answer = api.post("/v1/files", files={"content": ("a.bin", b"x")})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert plain.ledger()["uploaded"] == 0
