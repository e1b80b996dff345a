from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import tracemalloc
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import InputError, Problem
from jobs.prompts_file.formats import BLOCK, MAX_LINE, file_format
from jobs.prompts_file.reader import Defaults, Ids, Row, read_prompts


def read(path: Path | str) -> list[Row | Problem]:
    return list(chain.from_iterable(read_prompts(str(path), Defaults("owner/name"), Ids())))


def inputs(path: Path | str) -> dict[str, Any]:
    found = {}
    for row in read(path):
        assert isinstance(row, Row), row
        found[row.id] = json.loads(row.text)["input"]
    return found


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize(
    ("source", "known_as"),
    [
        ("-", ".jsonl"),
        ("a.jsonl", ".jsonl"),
        ("A.JSONL.GZ", ".jsonl.gz"),
        ("x/y.csv", ".csv"),
        ("notes.txt", ".txt"),
        ("a.TSV", ".tsv"),
    ],
)
def test_the_format_follows_from_the_name(source: str, known_as: str) -> None:
    assert file_format(source) == known_as


@pytest.mark.parametrize("source", ["prompts", "a.json", "a.csv.gz", "a.xlsx", "jsonl"])
def test_an_unknown_format_names_the_known_ones(source: str) -> None:
    with pytest.raises(InputError, match=r"\.jsonl, \.jsonl\.gz, \.csv, \.txt"):
        read(source)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(InputError, match=r"missing\.jsonl cannot be read: No such file"):
        read(tmp_path / "missing.jsonl")
    with pytest.raises(InputError, match=r"folder\.jsonl is a directory"):
        read(tmp_path / "folder.jsonl")
    with pytest.raises(InputError, match="cannot be read: Not a directory"):
        read(write(tmp_path / "plain", "") / "x.jsonl")


def test_byte_order_mark_and_carriage_returns_are_accepted(tmp_path: Path) -> None:
    rows = b'\xef\xbb\xbf{"prompt": "a"}\r\n\r\n{"prompt": "b"}\r\n'
    assert inputs(write(tmp_path / "a.jsonl", rows)) == {"000001": {"prompt": "a"}, "000003": {"prompt": "b"}}
    lines = b"\xef\xbb\xbfa fox\r\n\r\n  a cat \r\n"
    assert inputs(write(tmp_path / "a.txt", lines)) == {"000001": {"prompt": "a fox"}, "000003": {"prompt": "a cat"}}
    cells = b"\xef\xbb\xbfprompt,seed\r\na fox,1\r\n"
    assert inputs(write(tmp_path / "a.csv", cells)) == {"000001": {"prompt": "a fox", "seed": 1}}


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    text = "a\u2028b\u0085c\x0bd"
    assert inputs(write(tmp_path / "a.txt", text + "\nsecond")) == {
        "000001": {"prompt": text},
        "000002": {"prompt": "second"},
    }


def test_standard_input_is_json_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"prompt": "a"}\n')))
    assert inputs("-") == {"000001": {"prompt": "a"}}


@pytest.mark.parametrize("suffix", [".jsonl", ".txt"])
def test_broken_utf8_is_reported_with_its_offset_and_reading_goes_on(tmp_path: Path, suffix: str) -> None:
    good = b'{"prompt": "ok"}' if suffix == ".jsonl" else b"ok"
    found = read(write(tmp_path / f"a{suffix}", good + b"\nab\xffc\n" + good))
    assert [isinstance(item, Row) for item in found] == [True, False, True]
    assert str(found[1]).startswith("line 2: not UTF-8: byte 0xff at offset 2 of the line. Save the file as UTF-8")


@pytest.mark.parametrize("suffix", [".jsonl", ".txt", ".csv"])
def test_a_line_of_5_mb_is_refused(tmp_path: Path, suffix: str) -> None:
    first, last = (b'{"prompt": "a"}', b'{"prompt": "b"}') if suffix == ".jsonl" else (b"a fox", b"b")
    path = write(tmp_path / f"a{suffix}", first + b"\n" + b"x" * 5_000_000 + b"\n" + last)
    problems = [item for item in read(path) if isinstance(item, Problem)]
    assert len(problems) == 1
    assert problems[0].line == 2
    assert "longer than 2,000,000 bytes" in problems[0].message


def test_a_data_uri_of_1_mb_is_taken(tmp_path: Path) -> None:
    uri = "data:image/png;base64," + "A" * 1_000_000
    assert inputs(write(tmp_path / "a.jsonl", json.dumps({"input": {"image": uri}}))) == {"000001": {"image": uri}}
    assert inputs(write(tmp_path / "a.csv", f'image\n"{uri}"\n')) == {"000001": {"image": uri}}


@pytest.mark.parametrize("length", [MAX_LINE, MAX_LINE + 1, BLOCK, BLOCK - 1, BLOCK + 1, 2 * BLOCK])
def test_the_bound_holds_wherever_the_blocks_end(tmp_path: Path, length: int) -> None:
    found = read(write(tmp_path / "a.txt", b"x" * length + b"\nshort\n" + b"y" * length))
    assert [item.line for item in found] == [1, 2, 3]
    fits = length < MAX_LINE - 100  # with what a row has besides its prompt
    assert [isinstance(item, Row) for item in found] == [fits, True, fits]


def test_a_zipped_endless_line_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as bomb:
        for _ in range(300):
            bomb.write(b"0" * BLOCK)
    tracemalloc.start()
    try:
        (found,) = read(path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert "longer than" in str(found)


def test_gzip_is_read_and_its_damage_reported(tmp_path: Path) -> None:
    rows = b"".join(b'{"prompt": "%d"}\n' % number for number in range(50_000))
    packed = gzip.compress(rows)
    assert len(inputs(write(tmp_path / "good.jsonl.gz", packed))) == 50_000
    damaged = bytearray(packed)
    damaged[-6] ^= 0xFF
    damages = {"cut": packed[: len(packed) // 2], "wrong": bytes(damaged), "plain": rows}
    for name, data in damages.items():
        *_, last = read(write(tmp_path / f"{name}.jsonl.gz", data))
        assert "the file cannot be read further: " in str(last), name


def test_an_empty_file_has_no_prompt(tmp_path: Path) -> None:
    for name, data in {
        "a.jsonl": b"",
        "b.txt": b"\n \n",
        "c.csv": b"",
        "d.csv": b"prompt\n",
        "e.jsonl.gz": b"",
    }.items():
        assert [str(item) for item in read(write(tmp_path / name, data))] == ["there is no prompt in it"], name


def test_csv_columns_are_inputs_and_an_empty_cell_is_none(tmp_path: Path) -> None:
    table = 'custom_id,model,prompt,seed\nx,o/n,"a ""red"" fox,\nby night",7\n\n,,b,\n,,,\n'
    first, second = read(write(tmp_path / "a.csv", table))
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert json.loads(first.text) == {
        "id": "x",
        "model": "o/n",
        "input": {"prompt": 'a "red" fox,\nby night', "seed": 7},
    }
    assert json.loads(second.text) == {"id": "000002", "model": "owner/name", "input": {"prompt": "b"}}


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1", 1),
        ("-0.5", -0.5),
        ("1e3", 1000.0),
        ("true", True),
        ("false", False),
        ("True", True),
        ("FALSE", False),
        (" 7", 7),
        ("tRUE", "tRUE"),
        ("007", "007"),
        ("1.", "1."),
        ("+1", "+1"),
        ("null", "null"),
        ("NaN", "NaN"),
        ("1e999", "1e999"),
        ("٣", "٣"),
        ("[1]", "[1]"),
        ("9" * 400, "9" * 400),
    ],
)
def test_a_csv_cell_that_is_a_json_number_or_truth_value_becomes_it(tmp_path: Path, cell: str, value: Any) -> None:
    (found,) = inputs(write(tmp_path / "a.csv", f"x,prompt\n{cell},{cell}\n")).values()
    assert found == {"x": value, "prompt": cell}
    assert type(found["x"]) is type(value)


@pytest.mark.parametrize(
    ("table", "line", "reason"),
    [
        ("a,b\n1,2\n\n1\n", 4, "1 cells where the header has 2 columns"),
        ("a\n1,2\n", 2, "2 cells where the header has 1 columns"),
        ('a,b\n"x\ny",1\n"x",2,3\n', 4, "3 cells where"),
        ("a,b,a\n1,2,3\n", 1, "the column 'a' is there twice"),
        ("\na, ,b\n1,2,3\n", 2, "column 2 has no name"),
        ('\n""\n1\n', 2, "column 1 has no name"),
        ('a\n1\n"open\nand\nopen', 3, "not CSV: a quote is opened and never closed; the rest was not checked"),
        ('a\n"x"y\n', 2, "not CSV: text follows a closing quote"),
        ("a\nx\rz\n", 2, "not CSV"),
        ("a\n1\nb\xff\n2", 3, "this is 'b\xff'; the rest was not checked"),
    ],
)
def test_a_table_with_a_fault_says_where(tmp_path: Path, table: str, line: int, reason: str) -> None:
    *_, last = read(write(tmp_path / "a.csv", table.encode("latin-1")))
    assert isinstance(last, Problem)
    assert last.line == line
    assert reason in last.message


def test_an_open_quote_does_not_swallow_the_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b'prompt\n"open\n' + b"word\n" * 1_000_000)
    (found,) = read(path)
    assert str(found).startswith("line 2: not CSV: a cell is longer than 2,000,000 bytes")


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n\ufeff"), min_size=1).filter(
    lambda text: any(map(str.isprintable, text.strip())) and "prompt" not in text and text[:1] != "<"
)


@settings(deadline=None)
@given(prompts=st.lists(WORDS.map(str.strip), min_size=1, max_size=5))
def test_the_same_prompts_come_out_of_every_format(
    tmp_path_factory: pytest.TempPathFactory, prompts: list[str]
) -> None:
    home = tmp_path_factory.getbasetemp()
    rows = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
    table = io.StringIO()
    csv.writer(table, quoting=csv.QUOTE_ALL).writerows([["prompt"], *([prompt] for prompt in prompts)])
    files = {
        "same.jsonl": rows.encode(),
        "same.jsonl.gz": gzip.compress(rows.encode()),
        "same.csv": table.getvalue().encode(),
        "same.txt": "\n".join(prompts).encode(),
    }
    expected = {f"{number:06d}": {"prompt": prompt} for number, prompt in enumerate(prompts, 1)}
    for name, data in files.items():
        assert inputs(write(home / name, data)) == expected, name
