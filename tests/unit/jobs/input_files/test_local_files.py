"""Local files: found by the paths that people and their programs write, and refused by what is wrong with them."""

from __future__ import annotations

import hashlib
import os
import socket
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.input_files import local_files
from jobs.input_files.local_files import MAX_BYTES, MOST_SUGGESTED, LocalFiles, UnfitFile
from jobs.input_files.path_texts import LONGEST_SHOWN
from jobs.input_files.reference import FileReference

PICTURE = b"\x89PNG picture"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "prompts"
    (path / "stills").mkdir(parents=True)
    (path / "stills" / "harbour.png").write_bytes(PICTURE)
    return path


def reason(home: Path, text: str) -> str:
    found = LocalFiles(home).find(text)
    assert isinstance(found, UnfitFile)
    return found.reason


def path_of(home: Path, text: str) -> Path:
    found = LocalFiles(home).find(text)
    assert isinstance(found, FileReference), found
    return Path(found.path)


def test_a_file_is_found_and_hashed(home: Path) -> None:
    expected = FileReference(str(home / "stills" / "harbour.png"), hashlib.sha256(PICTURE).hexdigest(), len(PICTURE))
    assert LocalFiles(home).find("stills/harbour.png") == expected


def test_a_file_is_read_once(home: Path) -> None:
    files = LocalFiles(home)
    first = files.find("stills/harbour.png")
    (home / "stills" / "harbour.png").write_bytes(b"another")
    assert files.find("stills/harbour.png") is first


@pytest.mark.parametrize(
    "text",
    [
        "./stills/harbour.png",
        "stills//harbour.png",
        "stills/../stills/harbour.png",
        "../prompts/stills/harbour.png",
        " stills/harbour.png ",
        "stills\\harbour.png",
        ".\\stills\\harbour.png",
        "file:stills/harbour.png",
        "file://stills/harbour.png",
        '"stills\\harbour.png"',
        "\u202astills/harbour.png\u202c",
        "\ufeffstills/harbour.png\u200b \t",
    ],
)
def test_one_file_has_one_path_whatever_a_relative_path_says(home: Path, text: str) -> None:
    assert path_of(home, text) == home / "stills" / "harbour.png"


def test_a_relative_path_does_not_depend_on_how_its_folder_is_reached(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.parent / "link").symlink_to(home)
    monkeypatch.chdir(home / "stills")
    homes = [home, home.parent / "link", Path(".."), Path("../../link")]
    assert {path_of(one, "stills/harbour.png") for one in homes} == {home / "stills" / "harbour.png"}


def test_an_absolute_path_stays_as_it_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = home.parent / "link"
    link.symlink_to(home)
    assert path_of(Path("/"), f"{link}/stills/harbour.png") == link / "stills" / "harbour.png"
    assert path_of(Path("/"), (home / "stills" / "harbour.png").as_uri()) == home / "stills" / "harbour.png"
    monkeypatch.setenv("HOME", str(home))
    assert path_of(Path("/"), "~/stills/harbour.png") == home / "stills" / "harbour.png"


def test_a_link_keeps_its_own_name(home: Path) -> None:
    (home / "blob").write_bytes(PICTURE)
    (home / "stills" / "linked.png").symlink_to(home / "blob")
    assert path_of(home, "stills/linked.png") == home / "stills" / "linked.png"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_are_found_however_they_are_spelled(home: Path, form: str) -> None:
    name = "häfen ガ.png"
    (home / unicodedata.normalize("NFC" if form == "NFD" else "NFD", name)).write_bytes(PICTURE)
    assert path_of(home, unicodedata.normalize(form, name)).exists()  # type: ignore[arg-type]  # one of the two


@pytest.mark.parametrize(
    "name", [" a.png", "a%20b.png", "a#1?.png", "ꦏꦴ 👩‍👩‍👧.jpg", "-rf", "$HOME.png", "a'b\".png", "x" * 255]
)
def test_names_of_any_kind(home: Path, name: str) -> None:
    (home / name).write_bytes(PICTURE)
    assert path_of(home, name) == home / name
    assert path_of(home, (home / name).as_uri()) == home / name


@pytest.fixture
def odd(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with what is no file, or none that can be uploaded."""
    folder = home / "odd"
    folder.mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    (folder / "empty.png").touch()
    (folder / "circle.png").symlink_to("circle.png")
    (folder / "broken.png").symlink_to("nowhere.png")
    (folder / "device.png").symlink_to("/dev/zero")
    with (folder / "large.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    short = tmp_path_factory.mktemp("s")  # a socket's path has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(short / "s"))
        (folder / "socket.png").symlink_to(short / "s")
        yield folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pipe.png", "which is a named pipe, not a file"),
        ("folder.png", "which is a directory, not a file"),
        ("socket.png", "which is a socket, not a file"),
        ("device.png", "which is a device, not a file"),
        ("empty.png", "which is empty"),
        ("circle.png", "a symbolic link that leads in a circle"),
        ("broken.png", "a symbolic link to nowhere.png, which does not exist"),
        ("large.png", "which has more than 100,000,000 bytes: give it by an https URL"),
        ("circle.png/a.png", "which cannot be read: Too many levels of symbolic links"),
    ],
)
def test_what_cannot_be_an_input(odd: Path, name: str, expected: str) -> None:
    assert reason(odd, name) == f"{odd / name}, {expected}"


def test_the_largest_file_is_taken(home: Path) -> None:
    os.truncate(home / "stills/harbour.png", local_files.MAX_BYTES)
    assert path_of(home, "stills/harbour.png")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stills/harbor.png", "{home}/stills/harbor.png, which does not exist; did you mean 'harbour.png'?"),
        ("stills/Harbour.PNG", "{home}/stills/Harbour.PNG, which does not exist; did you mean 'harbour.png'?"),
        ("stills/harbour.jpg", "{home}/stills/harbour.jpg, which does not exist; did you mean 'harbour.png'?"),
        ("stills/harbour", "{home}/stills/harbour, which does not exist; did you mean 'harbour.png'?"),
        ("stills/zebra.png", "{home}/stills/zebra.png, which does not exist"),
        ("stills/harbour.png/a", "{home}/stills/harbour.png/a, and there is no folder {home}/stills/harbour.png"),
        ("scans/a.png", "{home}/scans/a.png, and there is no folder {home}/scans"),
        ("../a.png", "{home.parent}/a.png, which does not exist"),
        ("/nowhere/a.png", "/nowhere/a.png, and there is no folder /nowhere"),
        ("x" * 300, "{short}…" + "x" * 150 + ", which does not exist"),
        ("x/" * 2000 + "x", "{short}…" + "/x" * 75 + ", and there is no folder {short}…" + "/x" * 75),
        ("\x1b[2J/a.png", "'{home}/\\x1b[2J/a.png', and there is no folder '{home}/\\x1b[2J'"),
    ],
)
def test_a_file_that_is_missing(home: Path, text: str, expected: str) -> None:
    short = f"{home}/{'x/' * 99 if '/' in text else text}"[: LONGEST_SHOWN // 2]
    assert reason(home, text) == expected.format(home=home, short=short)


def test_names_are_suggested_for_the_first_missing_files_only(home: Path) -> None:
    files = LocalFiles(home / "stills")
    found = [files.find(f"harbour{number}.png") for number in range(MOST_SUGGESTED + 1)]
    assert [isinstance(one, UnfitFile) and "did you mean 'harbour.png'?" in one.reason for one in found] == [
        *[True] * MOST_SUGGESTED,
        False,
    ]


def test_a_pipe_that_takes_the_place_of_a_file_is_not_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "stills" / "harbour.png"
    open_file = os.open

    def replace_first(name: Any, flags: int, *more: Any) -> int:
        if name == path:
            path.unlink()
            os.mkfifo(path)
        return open_file(name, flags, *more)

    monkeypatch.setattr(os, "open", replace_first)
    assert reason(home, "stills/harbour.png") == f"{path}, which is a named pipe, not a file"


def test_a_file_that_may_not_be_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # root may read everything
    assert reason(home, "stills/harbour.png").endswith("harbour.png, which cannot be read: Permission denied")


def test_a_file_must_not_change_while_it_is_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.file_digest

    def write_more(*given: object) -> object:
        with (home / "stills" / "harbour.png").open("ab") as file:
            file.write(b"more")
        return digest(*given)  # type: ignore[arg-type]  # as it was given

    monkeypatch.setattr(hashlib, "file_digest", write_more)
    assert reason(home, "stills/harbour.png").endswith("which changed while it was read: is it still being written?")
