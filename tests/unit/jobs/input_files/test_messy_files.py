"""Files and paths as people's machines really have them: found as they are meant, or refused by what is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.catalog.model import Model
from jobs.catalog.references import input_schema
from jobs.catalog.row_check import RowCheck
from jobs.input_files.reference import FileReference, references
from jobs.input_files.resolver import FileResolver
from jobs.prompts_file.reader import Defaults, Ids, Row, read_prompts
from simulator.models.registry import MODELS

NAME = "simulator/everything"
SCHEMA = input_schema(MODELS[NAME].openapi_schema())
KNOWN = {NAME: Model(NAME, MODELS[NAME].version, official=True, schema=SCHEMA, looked_up=1.0)}


def check(source: Path) -> tuple[list[Any], list[str]]:
    """What a prompts file becomes: the inputs of its right rows, and what is wrong with the others."""
    rows = RowCheck(KNOWN, FileResolver(source.parent))
    read = list(chain.from_iterable(read_prompts(str(source), Defaults(NAME), Ids())))
    checked = [rows.check(row) for row in read if isinstance(row, Row)]
    problems = [str(one) for one in read if not isinstance(one, Row)]
    inputs = [json.loads(one.row.text)["input"] for one in checked if one]
    return inputs, problems + [str(one) for one in rows.mistakes.problems()]


def write(path: Path, content: bytes = b"picture") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def paths(inputs: list[Any]) -> list[str]:
    return [file.path for values in inputs for file in references(values)]


def test_a_table_that_excel_saved_on_windows(tmp_path: Path) -> None:
    """Semicolons, a byte order mark, CRLF, backslashes, "Copy as path", an empty cell."""
    source = write(
        tmp_path / "shots.csv",
        '\ufeffprompt;image;steps\r\na;stills\\Köln 1.png;4\r\nb;"""stills\\b.png""";4\r\nc;;4\r\n'.encode(),
    )
    files = [write(tmp_path / "stills" / name) for name in ("Köln 1.png", "b.png")]
    inputs, problems = check(source)
    assert problems == []
    assert paths(inputs) == [str(file) for file in files]
    assert inputs[2] == {"prompt": "c", "steps": 4}


def test_a_path_that_was_copied_from_windows_explorer(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", "image\n\u202aC:\\Users\\me\\a.png\n".encode())
    assert check(source)[1] == [
        "line 2: 'image' names C:\\Users\\me\\a.png, a path of Windows, which this machine does not have"
    ]


def test_a_table_with_blanks_after_its_commas(tmp_path: Path) -> None:
    source = write(tmp_path / "labels.csv", b"prompt, image\nan apple pie, apple_pie/1005649.jpg \n")
    write(tmp_path / "apple_pie" / "1005649.jpg")
    assert paths(check(source)[0]) == [str(tmp_path / "apple_pie" / "1005649.jpg")]


def test_an_archive_of_macos_that_was_unpacked_on_linux(tmp_path: Path) -> None:
    """The folder was made on Linux, with composed letters, its files were not; the table has the composed ones."""
    name = "Ölgemälde ガ.png"
    file = write(tmp_path / unicodedata.normalize("NFC", "Fotos Köln") / unicodedata.normalize("NFD", name))
    source = write(tmp_path / "a.jsonl", json.dumps({"image": f"Fotos Köln/{name}", "prompt": "x"}).encode())
    assert paths(check(source)[0]) == [str(file)]


def test_a_repository_that_was_cloned_without_git_lfs(tmp_path: Path) -> None:
    write(tmp_path / "a.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    source = write(tmp_path / "a.jsonl", b'{"image": "@a.png", "prompt": "x"}')
    assert check(source)[1] == [
        f"line 1: 'image' names {tmp_path}/a.png, which is a pointer of Git LFS: `git lfs pull` fetches the file"
    ]


def test_a_dataset_that_git_annex_or_a_cache_keeps_as_links(tmp_path: Path) -> None:
    blob = write(tmp_path / "blobs" / "4d7a2146")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "0001.png").symlink_to("../blobs/4d7a2146")
    (tmp_path / "snapshot" / "0002.png").symlink_to("../.git/annex/objects/x/SHA256E-s7--0.png")
    lines = [{"file_name": f"000{number}.png", "prompt": "x"} for number in (1, 2)]
    source = write(tmp_path / "snapshot" / "a.jsonl", "\n".join(map(json.dumps, lines)).encode())
    source.write_text(source.read_text().replace("file_name", "image"))
    inputs, (problem,) = check(source)
    assert [list(references(values)) for values in inputs] == [
        [FileReference(str(source.parent / "0001.png"), hashlib.sha256(blob.read_bytes()).hexdigest(), 7)]
    ]
    assert problem.endswith(
        "0002.png, a symbolic link to ../.git/annex/objects/x/SHA256E-s7--0.png, which does not exist"
    )


def test_files_that_a_cloud_has_not_fetched_yet(tmp_path: Path) -> None:
    """One without content, and one that only has a hidden stand-in."""
    write(tmp_path / "a.png", b"")
    write(tmp_path / ".b.png.icloud")
    source = write(tmp_path / "a.jsonl", b'{"image": "a.png", "prompt": "x"}\n{"image": "b.png", "prompt": "x"}')
    assert check(source)[1] == [
        f"line 1: 'image' names {tmp_path}/a.png, which is empty",
        f"line 2: 'image' names {tmp_path}/b.png, which does not exist",
    ]


def test_names_whose_case_or_extension_differs(tmp_path: Path) -> None:
    """As a table from a system that does not tell them apart, or without extensions."""
    for name in ("IMG_0001.JPG", "RA-1.jpg"):
        write(tmp_path / name)
    rows = [{"image": name, "prompt": "x"} for name in ("img_0001.jpg", "IMG_0001.jpeg", "RA-1")]
    source = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert [problem.rpartition("did you mean ")[2] for problem in check(source)[1]] == [
        "'IMG_0001.JPG'?",
        "'IMG_0001.JPG'?",
        "'RA-1.jpg'?",
    ]


def test_a_table_that_lies_one_folder_too_deep(tmp_path: Path) -> None:
    """Ten thousand rows make one mistake: no line is left out."""
    rows = "".join(f"stills/{number % 3}.png\n" for number in range(9000))
    source = write(tmp_path / "stills" / "a.csv", b"image\n" + rows.encode())
    problems = check(source)[1]
    assert [problem.partition(": ")[0] for problem in problems] == [
        f"lines {first}, {first + 3}, {first + 6}, {first + 9}, {first + 12} and 2,995 more" for first in (2, 3, 4)
    ]
    assert all(problem.endswith(f"and there is no folder {tmp_path}/stills/stills") for problem in problems)


def test_urls_without_their_scheme(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", b"image\nwww.example.com/a.png\n//cdn.example.com/b.png\nscans.old/c.png\n")
    (tmp_path / "scans.old").mkdir()
    assert [problem.partition("there is no folder ")[2] for problem in check(source)[1]] == [
        f"{tmp_path}/www.example.com; is https://www.example.com/a.png meant?",
        "//cdn.example.com; is https://cdn.example.com/b.png meant?",
        "",
    ]


def test_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    """As an archive of a machine with another encoding leaves it."""
    home = Path(os.fsdecode(os.fsencode(tmp_path) + b"/H\xe4fen"))
    try:
        write(home / "a.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    source = write(home / "a.jsonl", b'{"image": "a.png", "prompt": "x"}')
    assert check(source)[1] == [
        f"line 1: 'image' names '{tmp_path}/H\\udce4fen/a.png', which is not UTF-8: rename the folder"
    ]


def test_a_list_of_files_in_a_cell(tmp_path: Path) -> None:
    files = [write(tmp_path / name) for name in ("a b.png", "c,d.png")]
    source = write(
        tmp_path / "a.tsv", b'prompt\treferences\nx\t"[""a b.png"", ""@c,d.png"", ""https://a.test/e.png""]"\n'
    )
    inputs, problems = check(source)
    assert problems == []
    assert paths(inputs) == [str(file) for file in files]


def test_a_path_of_a_browser_or_a_file_manager(tmp_path: Path) -> None:
    file = write(tmp_path / "100% häfen #1?.png")
    source = write(tmp_path / "a.jsonl", json.dumps({"image": file.as_uri(), "prompt": "x"}).encode())
    assert paths(check(source)[0]) == [str(file)]


FILE_NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=40
).filter(lambda name: name.strip() not in ("", ".", "..") and len(name.encode()) <= 255)


@given(names=st.lists(FILE_NAMES, min_size=1, max_size=4, unique=True))
def test_a_file_of_any_name_is_found_by_its_name(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    home = tmp_path_factory.mktemp("home")
    for number, name in enumerate(names):
        write(home / "stills" / name, b"%d" % number)
    rows = [
        {"image": f"@stills/{name}", "references": [f"stills/{name}", (home / "stills" / name).as_uri()]}
        for name in names
    ]
    source = write(home / "prompts.jsonl", "\n".join(json.dumps({"input": row}) for row in rows).encode())
    inputs, problems = check(source)
    assert problems == []
    expected = [
        FileReference(str(home / "stills" / name), hashlib.sha256(b"%d" % number).hexdigest(), 1)
        for number, name in enumerate(names)
        for _ in range(3)
    ]
    assert [file for values in inputs for file in references(values)] == expected
    assert check(source) == (inputs, []), "the same files are the same rows"
