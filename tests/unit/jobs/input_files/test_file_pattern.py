"""Patterns over folders as people have them: what cameras, phones, Finder, Explorer and a NAS leave there."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from jobs.errors import InputError
from jobs.input_files.file_pattern import FilePattern

NFC, NFD = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


def tree(home: Path, *names: str) -> None:
    for name in names:
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def found(home: Path, pattern: str) -> list[str]:
    return [file.name for file in FilePattern(f"{home}/{pattern}").files([])]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("stills/*.png", ["a.png", "B.PNG", "img2.png", "img10.png"]),
        ("stills/*.JPG", ["c.jpg"]),
        ("stills", ["a.png", "B.PNG", "c.jpg", "img2.png", "img10.png"]),
        ("stills/", ["a.png", "B.PNG", "c.jpg", "img2.png", "img10.png"]),
        ("stills/*.{png,jpg}", ["a.png", "B.PNG", "c.jpg", "img2.png", "img10.png"]),
        ("stills/{a,c}.*", ["a.png", "c.jpg"]),
        ("stills/img[0-9].png", ["img2.png"]),
        ("stills/a.png", ["a.png"]),
        ("**/i*.png", ["stills/img2.png", "stills/img10.png"]),
        ("stills/**/d.png", ["deep/er/d.png"]),
        ("stills/**", ["a.png", "B.PNG", "c.jpg", "deep/er/d.png", "img2.png", "img10.png"]),
        ("{stills,other}/a.png", ["other/a.png", "stills/a.png"]),
        ("*/a.png", ["other/a.png", "stills/a.png"]),
        ("stills/../other/*", ["a.png"]),
        ("stills/.hidden.png", [".hidden.png"]),
        ("stills/.*.png", ["._a.png", ".hidden.png"]),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, names: list[str]) -> None:
    tree(
        tmp_path, *(f"stills/{name}" for name in ("img10.png", "img2.png", "a.png", "B.PNG", "c.jpg", "deep/er/d.png"))
    )
    tree(tmp_path, *(f"stills/{name}" for name in ("._a.png", ".hidden.png", ".DS_Store", "Thumbs.db", "desktop.ini")))
    tree(tmp_path, "other/a.png", "stills/@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "stills/__MACOSX/stills/a.png")
    assert found(tmp_path, pattern) == names


def test_a_name_that_exists_is_no_pattern(tmp_path: Path) -> None:
    names = ["[draft] cat.png", "d.png", "what?.png", "{a,b}.png", "a.png"]
    tree(tmp_path, *(f"my [photos]/{name}" for name in names))
    for name in ("[draft] cat.png", "what?.png", "{a,b}.png"):
        assert found(tmp_path, f"my [photos]/{name}") == [name]
    assert sorted(found(tmp_path, "my [photos]/*")) == sorted(names)


@pytest.mark.parametrize(("typed", "stored"), [(NFC, NFD), (NFD, NFC)])
def test_accents_are_found_however_they_are_stored(tmp_path: Path, typed: str, stored: str) -> None:
    tree(tmp_path, f"caf{stored}/t{stored}.png")
    for pattern in (f"caf{typed}", f"caf{typed}/*.png", f"caf{typed}/t{typed}.png", f"*/t{typed}.*"):
        assert [Path(name).name for name in found(tmp_path, pattern)] == [f"t{stored}.png"]


def test_odd_names(tmp_path: Path) -> None:
    names = [
        "-rf.png",
        'it\'s "so".png',
        "🦊.png",
        " blank .png",
        "two\nlines.png",
        "100%.png",
        "~.png",
        "@x.png",
        "日本.png",
    ]
    tree(tmp_path, *names)
    assert sorted(found(tmp_path, "*.png")) == sorted(names)
    for file in FilePattern(f"{tmp_path}/*.png").files([]):
        assert Path(file.path).read_bytes() == b"x"


def test_numbers_count_in_every_folder_of_the_path(tmp_path: Path) -> None:
    tree(tmp_path, *(f"s{scene}/{shot}.png" for scene in (1, 2, 10) for shot in (9, 10, 100)))
    order = [f"s{scene}/{shot}.png" for scene in (1, 2, 10) for shot in (9, 10, 100)]
    assert found(tmp_path, "**/*.png") == order


def test_what_lies_beside_pictures_is_left_out_and_said(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "a.txt", "b.jpg", "b.json", "b.cr2", "b.xmp")
    for pattern in ("", "*", "*.*", "[ab].*"):
        notes: list[str] = []
        assert [file.name for file in FilePattern(f"{tmp_path}/{pattern}").files(notes)] == ["a.png", "b.jpg"]
        assert notes == ["4 files are left out beside the pictures: a.txt, b.cr2, b.json, …"]
    assert found(tmp_path, "*.txt") == ["a.txt"]
    tree(tmp_path, "docs/a.pdf", "docs/b.txt")
    assert found(tmp_path, "docs") == ["a.pdf", "b.txt"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("stills/*.gif", r"names no file; '.*/stills' has 2 \.png, 1 \.mov; \*\* stands for"),
        ("stils/*.png", r"there is no folder '.*/stils'"),
        ("stills/**/*.gif", r"names no file; '.*/stills' has 2 \.png, 1 \.mov$"),
        ("stills/x.png", "names no file"),
        ("empty", "names no file; '.*/empty' has no file"),
        ("stills", r"has pictures \(2\) and videos \(1\); name those that are meant, as in '\*\.png'"),
    ],
)
def test_what_finds_nothing_says_what_is_there(tmp_path: Path, pattern: str, message: str) -> None:
    tree(tmp_path, "stills/IMG_1.png", "stills/IMG_2.png", "stills/IMG_1.MOV")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        found(tmp_path, pattern)


def test_links_and_pipes(tmp_path: Path) -> None:
    tree(tmp_path, "real/a.png")
    (tmp_path / "real/back").symlink_to(tmp_path)
    (tmp_path / "real/loop.png").symlink_to("loop.png")
    (tmp_path / "real/gone.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "real/pipe.png")
    (tmp_path / "linked").symlink_to("real")
    names = ["a.png", "gone.png", "loop.png", "pipe.png"]
    assert found(tmp_path, "linked/*.png") == names, "what cannot be read is an error of its row"
    assert found(tmp_path, "real/**/*.png") == names
    assert found(tmp_path, "linked") == names


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    tree(tmp_path, "a/a.png", "b/b.png")
    (tmp_path / "b").chmod(0)
    if os.access(tmp_path / "b", os.R_OK):
        pytest.skip("root reads everything")
    with pytest.raises(InputError, match="cannot be read"):
        found(tmp_path, "**/*.png")
