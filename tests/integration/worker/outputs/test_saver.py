from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from jobs.batch_folder.folder import RECORD, Folder
from jobs.config import Config
from jobs.errors import BrokenDownload, FileTooBig, OutputError, OutputGone, StorageError
from jobs.secret_inputs import Masking, Secrets
from worker.outputs.download import TRIES, Timing
from worker.outputs.file_host import files_client
from worker.outputs.file_writer import WRITE_SIZE
from worker.outputs.saver import OutputSaver, SavedOutput
from worker.outputs.shape import without

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 50
MP4 = b"\x00\x00\x00\x20ftypisom" + bytes(range(256)) * 50
DATA = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
DOCUMENTS = ("output.txt", "output.json")
SVG = "data:image/svg+xml,%3Csvg/%3E"
Make = Callable[..., OutputSaver]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    clients: list[httpx.AsyncClient] = []

    def make(**settings: Any) -> OutputSaver:
        config = Config.load(**({"output_hosts": ("127.0.0.1",), "fsync": False} | settings))
        clients.append(files_client(config))
        return OutputSaver(config, clients[-1], Timing(first_pause=0.0))

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "outputs", "night")
    folder.path.mkdir(parents=True)
    return folder


@pytest.fixture
def save(make: Make, folder: Folder) -> Callable[[Any], Awaitable[SavedOutput]]:
    async def save(output: Any) -> SavedOutput:
        return await commit(make(), folder, output)

    return save


async def commit(outputs: OutputSaver, folder: Folder, output: Any) -> SavedOutput:
    """As a worker does, with a record of nothing."""
    async with outputs.storage.staging(folder, "p-1") as staging:
        saved = await outputs.save(staging, output)
        await staging.commit(b"{}")
    return saved


async def save_only(outputs: OutputSaver, folder: Folder, output: Any) -> SavedOutput:
    async with outputs.storage.staging(folder, "p-1") as staging:
        return await outputs.save(staging, output)


def on_disk(folder: Folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.prompt("p-1").iterdir() if path.name != RECORD}


NOT_LISTED = "https://elsewhere.example/a.png"
BROKEN = "data:image/png;base64,broken*"
MIXED = {"text": "é", "video": "p-1/output_video.mp4"}


@pytest.mark.parametrize(
    ("output", "expected", "files"),
    [
        ("<png>", "p-1/output.png", {"output.png": PNG}),
        (["<png>"], ["p-1/output_0.png"], {"output_0.png": PNG}),
        (["<png>", "<png>"], ["p-1/output_0.png", "p-1/output_1.png"], {"output_0.png": PNG, "output_1.png": PNG}),
        (
            [["<png>"], ["<mp4>"]],
            [["p-1/output_0_0.png"], ["p-1/output_1_0.mp4"]],
            {"output_0_0.png": PNG, "output_1_0.mp4": MP4},
        ),
        ([{"file": "<png>"}], [{"file": "p-1/output_0_file.png"}], {"output_0_file.png": PNG}),
        (
            {"zip": "<png>", "a b": "<mp4>"},
            {"zip": "p-1/output_zip.png", "a b": "p-1/output_a-b.mp4"},
            {"output_zip.png": PNG, "output_a-b.mp4": MP4},
        ),
        (
            {"text": "é", "video": "<mp4>"},
            MIXED,
            {"output_video.mp4": MP4, "output.json": json.dumps(MIXED, ensure_ascii=False).encode()},
        ),
        (["Once", " upon"], ["Once", " upon"], {"output.txt": b"Once upon"}),
        ("https: is a protocol", "https: is a protocol", {"output.txt": b"https: is a protocol"}),
        (NOT_LISTED, NOT_LISTED, {"output.txt": NOT_LISTED.encode()}),
        ([[1, 2], [3]], [[1, 2], [3]], {"output.json": b"[[1, 2], [3]]"}),
        (DATA, "p-1/output.png", {"output.png": PNG}),
        ([SVG, "<png>"], ["p-1/output_0.svg", "p-1/output_1.png"], {"output_0.svg": b"<svg/>", "output_1.png": PNG}),
        (BROKEN, BROKEN, {"output.txt": BROKEN.encode()}),
        (None, None, {}),
    ],
)
async def test_every_shape_is_saved(
    output: Any, expected: Any, files: dict[str, bytes], save: Any, file_host: Any, folder: Folder
) -> None:
    urls = {"<png>": file_host.serve("/current.png", PNG), "<mp4>": file_host.serve("/a/clip.mp4", MP4)}
    saved = await save(without(output, urls))
    assert saved.output == expected
    assert on_disk(folder) == files
    assert {file.path for file in saved.files} == {f"p-1/{name}" for name in files if name not in DOCUMENTS}


async def test_a_saved_file_tells_what_it_is(save: Any, file_host: Any, reply: Any) -> None:
    url = file_host.serve("/out", reply(PNG, headers={"Content-Type": "image/png"}))
    files = (await save([url, DATA])).files
    sha256 = hashlib.sha256(PNG).hexdigest()
    facts = {"bytes": len(PNG), "sha256": sha256, "content_type": "image/png", "checked": None, "warning": None}
    assert [file.model_dump() for file in files] == [
        {"path": "p-1/output_0.png", "url": url} | facts,
        {"path": "p-1/output_1.png", "url": "data:image/png;base64,"} | facts,
    ]


async def test_a_file_without_any_type_is_known_by_its_first_bytes(save: Any, file_host: Any, folder: Folder) -> None:
    await save([file_host.serve("/a", PNG), file_host.serve("/b", MP4), file_host.serve("/c", b"?")])
    assert set(on_disk(folder)) == {"output_0.png", "output_1.mp4", "output_2.bin"}


async def test_data_in_the_prediction_is_replaced_by_paths(save: Any, file_host: Any) -> None:
    url = file_host.serve("/out.png", PNG)
    saved = await save({"a": DATA, "b": url})
    raw = {"id": "x", "input": {"image": DATA, "mask": SVG}, "output": {"a": DATA, "b": url}}
    assert saved.without_data(raw) == {
        "id": "x",
        "input": {"image": "p-1/output_a.png", "mask": SVG},
        "output": {"a": "p-1/output_a.png", "b": url},
    }
    assert (await save(url)).without_data(raw) is raw


async def test_without_file_output_nothing_is_fetched(make: Make, file_host: Any, folder: Folder) -> None:
    outputs = make(use_file_output=False)
    url = file_host.serve("/out.png", PNG)
    for output, files in [
        ([url, DATA], {}),
        ({"text": "x", "image": url}, {"output.json": json.dumps({"text": "x", "image": url}).encode()}),
        ("words", {"output.txt": b"words"}),
    ]:
        saved = await commit(outputs, folder, output)
        assert saved.output == output
        assert saved.files == ()
        assert saved.without_data({"output": output}) == {"output": output}
        assert on_disk(folder) == files
        shutil.rmtree(folder.prompt("p-1"))
    assert file_host.requests == []


async def test_all_files_come_at_once_but_no_more_than_allowed(make: Make, file_host: Any, folder: Folder) -> None:
    outputs = make(max_downloads=3)
    urls = [file_host.serve(f"/{n}.png", PNG) for n in range(12)]
    await asyncio.gather(*(save_only(outputs, folder, urls[4 * n : 4 * n + 4]) for n in range(3)))
    assert len(file_host.requests) == 12
    assert 1 < file_host.most_open <= 3


@pytest.mark.parametrize(
    ("bad", "error"),
    [({"status": 404}, OutputGone), ({"status": 500}, BrokenDownload), ({"body": bytes(20_000)}, FileTooBig)],
)
async def test_one_lost_file_ends_the_others(
    make: Make, file_host: Any, reply: Any, folder: Folder, bad: dict[str, Any], error: type[OutputError]
) -> None:
    good, hangs = file_host.serve("/good.png", PNG), file_host.serve("/hangs.png", reply(PNG, cut=9, stall=True))
    lost = file_host.serve("/lost.png", reply(**bad))
    with pytest.raises(error) as caught:
        await save_only(make(max_file_bytes=15_000), folder, [good, hangs, lost])
    assert caught.value.url == lost


async def test_a_file_is_not_given_up_lightly(save: Any, file_host: Any, reply: Any) -> None:
    await save(file_host.serve("/out.png", *[reply(status=503)] * (TRIES - 1), reply(PNG)))
    assert len(file_host.requests) == TRIES


async def test_of_several_failures_the_disks_is_told(make: Make, file_host: Any, folder: Folder) -> None:
    folder.path.rmdir()
    outputs, big = make(), bytes(WRITE_SIZE)
    urls = [f"http://{file_host.address}/gone.png", file_host.serve("/out.png", big), DATA]
    with pytest.raises((StorageError, OutputGone)):
        await save_only(outputs, folder, urls)
    with pytest.raises(StorageError, match="is gone"):
        await save_only(outputs, folder, urls[1:])
    for output in ([DATA, SVG], "text"):
        with pytest.raises(StorageError, match="is gone"):
            await commit(outputs, folder, output)
    assert not folder.path.exists()


async def test_a_cancelled_save_can_be_done_again(
    make: Make, file_host: Any, reply: Any, folder: Folder, eventually: Any
) -> None:
    outputs = make()
    big = os.urandom(3_000_000)
    url = file_host.serve("/out.png", reply(big, cut=2_000_000, stall=True), reply(big))
    task = asyncio.create_task(save_only(outputs, folder, url))
    await eventually(lambda: list(folder.path.glob(".saving/p-1.*/output.part")))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(folder.path.glob(".saving/*")) == []
    saved = await commit(outputs, folder, url)
    assert (folder.path / saved.output).read_bytes() == big
    assert (folder.prompt("p-1") / "prediction.json").read_bytes() == b"{}"


async def test_percent_encoded_data_of_any_bytes(save: Any, folder: Folder) -> None:
    await save(f"data:application/octet-stream,{quote(bytes(range(256)))}")
    assert on_disk(folder) == {"output.bin": bytes(range(256))}


FAULTS = ["truncated_body", "broken_body", "wrong_length", "wrong_bytes", "bare_file", "redirect"]


@pytest.mark.parametrize("fault", [None, *FAULTS])
async def test_files_of_the_simulator_arrive_whole_whatever_breaks(
    make: Make, simulator: Any, folder: Folder, fault: str | None
) -> None:
    """What is whole is what an undisturbed request brings."""
    simulator.settings(predict_min=0)
    prediction = await predicted(simulator.url, {"prompt": "a fox", "num_outputs": 4, "seed": 1})
    urls = prediction["output"]
    assert len(urls) == 4
    async with httpx.AsyncClient() as client:
        expected = [(await client.get(url)).content for url in urls]
    if fault:
        simulator.control(**{fault: {"next": 3}})
    outputs = make(output_hosts=(str(urlsplit(simulator.files_url).hostname),))
    saved = await commit(outputs, folder, urls)
    assert [(folder.path / path).read_bytes() for path in saved.output] == expected
    assert [file.sha256 for file in saved.files] == [hashlib.sha256(content).hexdigest() for content in expected]


async def predicted(api: str, values: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": "Bearer r8_a_token_for_tests", "Prefer": "wait=30"}
    async with httpx.AsyncClient(base_url=api, headers=headers, timeout=40) as client:
        answer = await client.post("/v1/predictions", json={"version": "simulator/image", "input": values})
        prediction: dict[str, Any] = answer.json()
        async with asyncio.timeout(30):
            while prediction["status"] != "succeeded":
                await asyncio.sleep(0.05)
                prediction = (await client.get(f"/v1/predictions/{prediction['id']}")).json()
            return dict((await client.get(f"/v1/predictions/{prediction['id']}")).json())


SECRET = "hunter2-hunter2"
MASKING = Masking(Secrets({}), {"key": {"$secret": SECRET}})


@pytest.mark.parametrize(
    ("output", "name", "content"),
    [
        (f"it is {SECRET}", "output.txt", b"it is [REDACTED]"),
        (["it is hunter2", "-hunter2"], "output.txt", b"it is [REDACTED]"),
        ({"said": SECRET}, "output.json", b'{"said": "[REDACTED]"}'),
    ],
)
async def test_a_document_has_no_secret(make: Make, folder: Folder, output: Any, name: str, content: bytes) -> None:
    outputs = make()
    async with outputs.storage.staging(folder, "p-1") as staging:
        await outputs.save(staging, output, masking=MASKING)
        await staging.commit(b"{}")
    assert on_disk(folder) == {name: content}


async def test_the_log_of_a_transfer_has_no_secret(
    make: Make, folder: Folder, file_host: Any, reply: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The URL of an output may have it; it is asked for as it is."""
    url = file_host.serve(f"/{'x' * 153}.png?signature={SECRET}", reply(b"", status=503), reply(b"a file"))
    assert SECRET not in url[:200]
    assert SECRET[:8] in url[:200]
    outputs = make()
    with caplog.at_level(logging.INFO, "worker"):
        async with outputs.storage.staging(folder, "p-1") as staging:
            await outputs.save(staging, url, masking=MASKING)
    assert "answers 503" in caplog.text
    assert SECRET[:8] not in caplog.text
    assert [path.partition("=")[2] for path, _ in file_host.requests] == [SECRET] * 2
