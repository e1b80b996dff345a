"""Rows that come from no prompts file: files of a folder, and outputs of another batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.batch_folder.folder import Folder
from jobs.config import Config
from jobs.input_files.reference import read_reference
from jobs.wire import Result, SavedFile
from simulator.models.file_contents import draw_picture, encode_image

Cli = Callable[..., Any]
UPSCALE = ("--model", "simulator/upscale")


@pytest.fixture
def stills(tmp_path: Path) -> Path:
    folder = tmp_path / "stills"
    for name in ("img10.png", "img2.png", "IMG_3.PNG", "say [no] 'x'.png", "notes.txt", "._img2.png", "deep/img2.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def portraits(config: Config) -> Folder:
    """A batch of another night: two pictures, one, none, a failure, and one to come."""
    folder = Folder(config.output_dir, "portraits")
    outputs = {"two": ["output_0.png", "output_1.png"], "one": ["output.png", "output.json"], "text": []}
    folder.path.mkdir(parents=True)
    folder.manifest.write_text('{"id": "1"}')
    rows = [{"id": name, "input": {}, "model": "a/b"} for name in (*outputs, "bad", "later")]
    folder.prompts.write_text("".join(f"{json.dumps(row, separators=(',', ':'))}\n" for row in rows))
    for index, name in enumerate((*outputs, "bad")):
        paths = [f"{name}/{file}" for file in outputs.get(name, [])]
        files = tuple(SavedFile(path=path, url="https://a.test", bytes=1, sha256="00") for path in paths)
        status: Any = "failed" if name == "bad" else "succeeded"
        folder.prompt(name).mkdir()
        record = Result(id=name, index=index, status=status, model="a/b", input={}, files=files)
        (folder.prompt(name) / "prediction.json").write_text(record.model_dump_json())
        for path in paths:
            (folder.path / path).write_bytes(path.encode())
    return folder


def enqueue(cli: Cli, *arguments: str, **settings: Any) -> dict[str, Any]:
    answer = cli("enqueue", *arguments, "--json", **settings)
    assert (answer.code, answer.err) == (0, "")
    found: dict[str, Any] = json.loads(answer.out)
    return found


def refused(cli: Cli, *arguments: str, **settings: Any) -> str:
    answer = cli("enqueue", "--check", *arguments, **settings)
    assert (answer.code, answer.out) == (2, "")
    message: str = answer.err
    return message


def rows(config: Config, batch: str) -> dict[str, dict[str, Any]]:
    lines = Folder(config.output_dir, batch).prompts.read_text().splitlines()
    return {row["id"]: row["input"] for row in map(json.loads, lines)}


def content(value: Any) -> str:
    """What a reference's file holds, as it was when it was hashed."""
    reference = read_reference(value)
    assert reference
    data = Path(reference.path).read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (reference.size, reference.sha256)
    return data.decode()


def test_a_row_for_each_file(cli: Cli, config: Config, stills: Path) -> None:
    receipt = enqueue(cli, "--each-file", f"{stills}/*.png", *UPSCALE, "--input", "scale=3")
    assert (receipt["batch"], receipt["enqueued"], receipt["warnings"]) == ("stills", 4, [])
    found = rows(config, "stills")
    assert [content(row["image"]) for row in found.values()] == [
        "img2.png",
        "img10.png",
        "IMG_3.PNG",
        "say [no] 'x'.png",
    ]
    assert list(found)[:3] == ["img2", "img10", "IMG_3"]
    assert {row["scale"] for row in found.values()} == {3}
    assert enqueue(cli, "--each-file", f"{stills}/*.png", *UPSCALE, "--input", "scale=3")["enqueued"] == 0
    (stills / "img11.png").write_bytes(b"new")
    again = enqueue(cli, "--each-file", f"{stills}/*.png", *UPSCALE, "--input", "scale=3")
    assert (again["enqueued"], again["total"]) == (1, 5)


def test_a_folder_means_its_pictures(cli: Cli, config: Config, stills: Path) -> None:
    receipt = enqueue(cli, "--each-file", str(stills), "--as", "image", *UPSCALE, "--each", "scale=2,4", "--limit", "3")
    assert list(rows(config, "stills")) == ["img2--scale-2", "img2--scale-4", "img10--scale-2"]
    assert receipt["warnings"] == ["1 file is left out beside the pictures: notes.txt"]


def test_folders_are_in_the_ids_and_a_list_takes_single_files(cli: Cli, config: Config, stills: Path) -> None:
    enqueue(
        cli, "--each-file", f"{stills}/**/img2.png", "--model", "simulator/collage", "--as", "images", "--name", "deep"
    )
    found = rows(config, "deep")
    assert {name: [content(one) for one in row["images"]] for name, row in found.items()} == {
        "deep-img2": ["deep/img2.png"],
        "img2": ["img2.png"],
    }


def test_without_a_check_the_input_is_named(cli: Cli, config: Config, stills: Path) -> None:
    arguments = ("--each-file", f"{stills}/*2.png", "--model", "a/b", "--no-model-check")
    assert "--as says which input the files are: no model is looked at" in refused(cli, *arguments)
    enqueue(cli, *arguments, "--as", "photo", "--template", "a {red|blue} frame")
    assert [(name, row["prompt"], content(row["photo"])) for name, row in rows(config, "stills").items()] == [
        ("img2--red", "a red frame", "img2.png"),
        ("img2--blue", "a blue frame", "img2.png"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "simulator/text"], "--as says which input the files are: simulator/text has none"),
        (["--model", "simulator/imgae"], "simulator/imgae: it does not exist"),
        (["--model", "not a model"], "--model or BATCH_MODEL: 'not a model' is not a model"),
        ([], "no model is given: --model or BATCH_MODEL names it"),
        (["--each", "model=simulator/upscale,simulator/collage"], "simulator/collage has images, background"),
        ([*UPSCALE, "--input", "image=x"], "'image' is set for all rows, but the files are to be that input"),
        ([*UPSCALE, "--each", "image=x,y"], "'image' is set for all rows"),
        ([*UPSCALE, "--as", "picture"], "simulator/upscale has no input 'picture'"),
        ([*UPSCALE, "--as", "id"], "it names the input for --each-file or --from"),
        (
            [*UPSCALE, "--from", "portraits"],
            "give exactly one: a file, --each-file with a pattern in quotes",
        ),
        ([*UPSCALE, "x.jsonl"], "give exactly one"),
    ],
)
def test_what_does_not_go_together(cli: Cli, stills: Path, arguments: list[str], message: str) -> None:
    found = " ".join(refused(cli, "--each-file", f"{stills}/img*.png", *arguments).replace("│", "").split())
    assert message in found


def test_what_is_wrong_with_files_is_said_by_their_number(cli: Cli, stills: Path) -> None:
    (stills / "img1.png").write_bytes(b"")
    (stills / "img3.png").symlink_to("gone.png")
    message = refused(cli, "--each-file", f"{stills}/*.png", *UPSCALE)
    assert f"{stills}/*.png: 2 errors; nothing was enqueued" in message
    assert f"  file 1: 'image' names {stills}/img1.png, which is empty" in message
    assert f"  file 3: 'image' names {stills}/img3.png, a symbolic link to gone.png" in message
    assert "names no file" in refused(cli, "--each-file", f"{stills}/*.gif", *UPSCALE)


def test_a_name_that_is_no_text(cli: Cli, stills: Path) -> None:
    (stills / "b\udcff.png").write_bytes(b"x")
    assert "is not UTF-8: rename the file" in refused(cli, "--each-file", f"{stills}/*.png", *UPSCALE)


def test_another_pattern_does_not_slip_into_a_batch(cli: Cli, config: Config, stills: Path) -> None:
    enqueue(cli, "--each-file", f"{stills}/*2.png", *UPSCALE)
    answer = cli("enqueue", "--each-file", f"{stills}/*10.png", *UPSCALE)
    assert answer.code == 2
    assert f"batch 'stills' was enqueued from {stills}/*2.png, not from {stills}/*10.png" in answer.err
    enqueue(cli, "--each-file", f"{stills}/*10.png", *UPSCALE, "--append")
    assert list(rows(config, "stills")) == ["img2", "img10"]


def test_a_row_for_each_output_of_a_batch(cli: Cli, config: Config, portraits: Folder) -> None:
    receipt = enqueue(cli, "--from", "portraits", *UPSCALE)
    assert (receipt["batch"], receipt["enqueued"]) == ("from-portraits", 3)
    assert {name: content(row["image"]) for name, row in rows(config, "from-portraits").items()} == {
        "two--output_0": "two/output_0.png",
        "two--output_1": "two/output_1.png",
        "one": "one/output.png",
    }
    assert receipt["warnings"] == [
        "1 prompt of portraits left out (text): no such file",
        "1 prompt of portraits left out (bad): not succeeded",
        "1 prompt of portraits left out (later): no result yet; the same command adds them later",
    ]
    enqueue(cli, "--from", "portraits/output_1", *UPSCALE, "--name", "second", "--each", "scale=2,3")
    assert list(rows(config, "second")) == ["two--scale-2", "two--scale-3"]
    (portraits.path / "one/output.png").unlink()
    assert "row 3: 'image' names" in refused(cli, "--from", "portraits", *UPSCALE)


def test_a_batch_without_outputs(cli: Cli, portraits: Folder) -> None:
    message = refused(cli, "--from", "portraits/mask", *UPSCALE)
    assert "--from: no prompt of batch 'portraits' has an output file. 3 prompts of portraits left out" in message
    assert "--from: there is no batch 'landscapes' in" in refused(cli, "--from", "landscapes", *UPSCALE)
    record = json.loads((portraits.prompt("one") / "prediction.json").read_text())
    record["files"][1]["path"] = "one/output_video.mp4"
    (portraits.prompt("one") / "prediction.json").write_text(json.dumps(record))
    message = refused(cli, "--from", "portraits", *UPSCALE)
    assert "has files of several kinds, output.png, output_video.mp4; name the one that is meant" in message


def test_outputs_that_rows_name(cli: Cli, config: Config, portraits: Folder, tmp_path: Path) -> None:
    assert portraits.path.is_dir()
    lines = [{"id": name, "input": {"image": "@batch:portraits/{id}/output"}} for name in ("one", "bad", "later")]
    source = tmp_path / "large.jsonl"
    source.write_text("".join(f"{json.dumps(row)}\n" for row in lines))
    message = refused(cli, str(source), *UPSCALE)
    assert "line 2: 'image' names an output of portraits/bad, which failed" in message
    assert "line 3: 'image' names an output of portraits/later, which is not done yet" in message
    source.write_text(f"{json.dumps(lines[0])}\n")
    enqueue(cli, str(source), *UPSCALE, "--each", "scale=2,3")
    enqueue(cli, str(source), "--name", "each", *UPSCALE, "--each", "image=@batch:portraits/{id}/output.png")
    source.write_text('{"id": "one", "input": {}}')
    enqueue(cli, str(source), "--name", "input", *UPSCALE, "--input", "image=@batch:portraits/{id}/output.png")
    assert list(rows(config, "large")) == ["one--scale-2", "one--scale-3"]
    for batch in ("large", "each", "input"):
        assert {content(row["image"]) for row in rows(config, batch).values()} == {"one/output.png"}


NAMES = (
    "-rf.png", "it's \"so\".PNG", "🦊 & 🐙.png", " blank .png", "100%.png", "#1 [final] (2).png", "caf\u0065\u0301.png",
    "日本.png", "--help.png", "$(touch x);.png", "two\nlines.png", "@home.png", "~.png", "a" * 240 + ".png", "CON.png",
)  # fmt: skip
"""What cameras, people and other systems call pictures."""


def test_pictures_of_any_name_go_to_the_model_and_on_to_the_next(
    cli: Cli, config: Config, tmp_path: Path, simulator: Any
) -> None:
    simulator.settings(limiter="off", predict_min=0.01, predict_max=0.02, queue_max=0.0)
    (tmp_path / "odd").mkdir()
    for number, name in enumerate(NAMES, 1):
        (tmp_path / "odd" / name).write_bytes(encode_image(draw_picture(name, name, (64, 64 + number)), "png"))
    answer = cli("run", "--each-file", f"{tmp_path}/odd/*.png", *UPSCALE)
    assert answer.code == 0, answer.out + answer.err
    assert len(rows(config, "odd")) == len(NAMES)
    answer = cli("run", "--from", "odd", "--name", "larger", *UPSCALE)
    assert answer.code == 0, answer.out + answer.err
    assert rows(config, "larger").keys() == rows(config, "odd").keys()
    for batch in ("odd", "larger"):
        assert cli("verify", batch).code == 0
    assert cli("enqueue", "--from", "odd", "--name", "larger", *UPSCALE).out.count("all done already") == 1
