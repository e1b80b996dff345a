"""Files as spreadsheets, editors and scripts really write them: read as they are meant, or refused by their name."""

from __future__ import annotations

import gzip
import io
import json
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import Problem
from jobs.prompts_file.key_names import KeyNames
from jobs.prompts_file.reader import Defaults, Ids, Row, read_prompts

SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".txt", "-")
BODIES = {".jsonl": '{"prompt": "a fox"}\n{"prompt": "köttur 猫"}\n', ".csv": "prompt\na fox\nköttur 猫\n"}


def body(suffix: str) -> str:
    kind = ".jsonl" if suffix in (".jsonl.gz", "-") else suffix
    return BODIES.get(kind, "a fox\nköttur 猫\n")


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def read(suffix: str, data: bytes | str) -> list[Row | Problem]:
        data = data if isinstance(data, bytes) else data.encode()
        source = "-" if suffix == "-" else str(tmp_path / f"a{suffix}")
        if suffix == "-":
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        else:
            Path(source).write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
        return list(chain.from_iterable(read_prompts(source, Defaults("o/n"), Ids())))

    return read


def inputs(found: list[Row | Problem]) -> list[Any]:
    assert [item for item in found if isinstance(item, Problem)] == []
    return [json.loads(item.text)["input"] for item in found if isinstance(item, Row)]


def problem(found: list[Row | Problem]) -> str:
    """Return the one problem of a file of which nothing is taken."""
    assert [type(item) for item in found] == [Problem], found
    return str(found[0])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_byte_order_mark_says_the_encoding(read: Any, suffix: str, encoding: str) -> None:
    assert inputs(read(suffix, body(suffix).encode(encoding))) == [{"prompt": "a fox"}, {"prompt": "köttur 猫"}]


def test_a_big_endian_file_with_crlf_and_more_than_a_block(read: Any) -> None:
    rows = "\r\n".join(f"prompt {number} 猫" for number in range(100_000))
    found = inputs(read(".txt", b"\xfe\xff" + rows.encode("utf-16-be")))
    assert (len(found), found[-1]) == (100_000, {"prompt": "prompt 99999 猫"})


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_wide_encoding_without_a_mark_is_refused_by_its_name(read: Any, suffix: str, encoding: str) -> None:
    for text in (body(suffix), body(suffix).replace("a fox", "一匹の狐が屋根の上にいる" * 9)):
        message = problem(read(suffix, text.encode(encoding)))
        assert f"this is {encoding[:6].upper()} without a byte order mark: save it as UTF-8 (iconv -f" in message


def test_a_file_that_is_no_utf16_to_its_end_says_where(read: Any) -> None:
    *_, last = read(".txt", "a fox\na cat\n".encode("utf-16") + b"x")
    assert "from here on it is not UTF-16, as at its start" in str(last)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nul_is_no_text(read: Any, suffix: str) -> None:
    *_, last = read(suffix, body(suffix).replace("köttur", "kö\0ttur"))
    assert "NUL" in str(last)
    assert isinstance(last, Problem)


@pytest.mark.parametrize(
    "row", ['{"prompt": "a\\u0000b"}', '{"input": {"list": ["\\u0000"]}}', '{"input": {"a": {"\\u0000": 1}}}']
)
def test_nul_that_is_escaped_is_no_text_either(read: Any, row: str) -> None:
    assert "NUL character" in problem(read(".jsonl", row))
    assert inputs(read(".jsonl", '{"prompt": "a\\\\u0000b"}')) == [{"prompt": "a\\u0000b"}]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_carriage_returns_alone_end_lines(read: Any, suffix: str) -> None:
    expected = [{"prompt": "a fox"}, {"prompt": "köttur 猫"}]
    for end in ("\r", "\r\n"):
        assert inputs(read(suffix, body(suffix).replace("\n", end))) == expected
    assert inputs(read(suffix, body(suffix).rstrip("\n").replace("\n", "\r"))) == expected


def test_line_ends_of_two_kinds_are_no_prompt(read: Any) -> None:
    found = read(".txt", "a\nb\rc\n")
    assert "the line contains a line end of another kind" in problem(found[1:])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_that_were_joined_by_cat(read: Any, suffix: str) -> None:
    one = body(suffix).encode("utf-8-sig")
    found = read(suffix, one + one)
    prompts = [json.loads(item.text)["input"]["prompt"] for item in found if isinstance(item, Row)]
    assert prompts == ["a fox", "köttur 猫"] * 2
    assert [str(item) for item in found if isinstance(item, Problem)] == (
        ["line 4: this is the header again: were files joined? Remove the line"] if suffix == ".csv" else []
    )
    *_, last = read(suffix, one.rstrip(b"\n") + one)
    assert any(isinstance(item, Problem) for item in (last, *read(suffix, one.rstrip(b"\n") + one)))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_old_8_bit_encoding_is_named(read: Any, suffix: str) -> None:
    text = body(suffix).replace("猫", "").encode("cp1252")
    *_, last = read(suffix, text)
    assert "not UTF-8: byte 0xf6" in str(last)
    assert "if it is in Windows-1252, this is " in str(last)
    assert "köttur" in str(last)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"PK\x03\x04\x14\0", "an Excel workbook"),
        (b"\xd0\xcf\x11\xe0\xa1", "an old Excel workbook"),
        (gzip.compress(b"a fox\n", mtime=0), "packed by gzip"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"{\\rtf1\\ansi a fox}", "rich text"),
        (b"\n<!DOCTYPE html>\n<html><body>404", "an HTML page"),
    ],
)
def test_what_is_no_prompts_file_at_all_is_called_by_its_name(read: Any, data: bytes, name: str) -> None:
    for suffix in (".jsonl", ".csv", ".txt"):
        assert name in problem(read(suffix, data))


def test_a_file_named_gz_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b'{"prompt": "a"}\n')
    (found,) = chain.from_iterable(read_prompts(str(tmp_path / "a.jsonl.gz"), Defaults("o/n"), Ids()))
    assert "the file cannot be read further: it is not packed by gzip, or damaged" in str(found)


@pytest.mark.parametrize(
    "table",
    [
        "sep=;\r\nprompt;seed\r\na fox, red;1\r\n",
        '"sep=;"\r\nprompt;seed\r\na fox, red;1\r\n',
        "SEP=\t\nprompt\tseed\na fox, red\t1\n",
        "sep=|\nprompt|seed\na fox, red|1\n",
        "prompt;seed\na fox, red;1\n",
        "prompt\tseed\na fox, red\t1\n",
        'prompt,seed,,\n"a fox, red",1,,\n,,,\n',
        "prompt;seed;\na fox, red;1;\n;;\n",
        "prompt;seed;;\na fox, red;1\n",
        ',,\nprompt,seed\n"a fox, red",1,,,,\n',
    ],
)
def test_a_table_as_excel_writes_it(read: Any, table: str) -> None:
    for text in (table.encode(), table.encode("utf-8-sig"), table.encode("utf-16")):
        assert inputs(read(".csv", text)) == [{"prompt": "a fox, red", "seed": 1}]


def test_truth_values_of_a_spreadsheet(read: Any) -> None:
    found = inputs(read(".csv", "prompt;go_fast;raw;x\nTRUE;TRUE;False;Falsch\n"))
    assert found == [{"prompt": "TRUE", "go_fast": True, "raw": False, "x": "Falsch"}]


def test_a_cell_of_blanks_is_empty(read: Any) -> None:
    assert inputs(read(".csv", "prompt,style\na, \n\xa0 ,\t\n\u200b,\n")) == [{"prompt": "a"}]
    assert inputs(read(".csv", "prompt\na\n\x1a")) == [{"prompt": "a"}]


def test_lines_keep_their_numbers_behind_a_separator_line(read: Any) -> None:
    found = read(".csv", 'sep=;\n\nprompt;seed\n"a\nb";1\nc;2;3\n')
    assert (
        str(found[-1]) == "line 6: 3 cells where the header has 2 columns; put text that contains a semicolon in quotes"
    )


@pytest.mark.parametrize(
    "table",
    ['prompt\n"open', 'prompt\n"x"y\n', "prompt\nx\ry\n", 'prompt\n"' + "x\n" * 1_100_000, "prompt\na\0b\n"],
)
def test_no_word_of_the_csv_module_reaches_people(read: Any, table: str) -> None:
    *_, last = read(".csv", table)
    for foreign in (
        "unexpected end",
        "expected after",
        "new-line",
        "field larger",
        "contains NUL",
        "_csv",
        "delimiter",
    ):
        assert foreign not in str(last)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", "-"])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_of_rows_is_read(read: Any, suffix: str, indent: int | None) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "a fox"},
        {"id": "x", "input": {"prompt": "[b], {c}", "n": [1, {"d": []}]}},
    ]
    found = read(suffix, "\ufeff\n" + json.dumps(rows, indent=indent))
    assert inputs(found) == [{"prompt": "a fox"}, rows[1]["input"]]
    assert [(item.id, item.line) for item in found] == [
        ("000001", 2 if indent is None else 3),
        ("x", 2 + 4 * bool(indent)),
    ]


def test_rows_that_take_several_lines_are_read(read: Any) -> None:
    rows = [{"prompt": "a fox"}, {"prompt": "a cat"}]
    for end in ("\n", "\r\n", "\r"):
        text = "\n".join(json.dumps(row, indent=2) for row in rows).replace("\n", end)
        assert inputs(read(".jsonl", text)) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[\n {"prompt": "a"}\n {"prompt": "b"}\n]', "line 3: not JSON: a comma is missing between two rows"),
        ('[\n {"prompt": "a"},\n', "line 3: not JSON: the array has no end"),
        ('[\n {"prompt": "a"},\n {"prompt" "b"}\n]', "line 3: not JSON: Expecting ':' delimiter at character 12"),
        ('[\n {"prompt": "a", "prompt": "b"}\n]', "line 2: the key 'prompt' is there twice"),
        ("[" * 100_000, "line 1: nested too deeply"),
        ("[]", "there is no prompt in it"),
        ('[{"prompt": "caf\xe9"}]', "line 1: not UTF-8"),
    ],
)
def test_an_array_that_is_wrong_is_one_mistake(read: Any, text: str, message: str) -> None:
    found = [item for item in read(".jsonl", text.encode("latin-1")) if isinstance(item, Problem)]
    assert len(found) == 1
    assert message in str(found[0])


def test_a_row_of_an_array_that_is_wrong_is_named(read: Any) -> None:
    found = read(".jsonl", '[\n{"prompt": "a"},\n{"seed": 1},\n"b"\n]')
    assert [str(item).split(":")[0] for item in found if isinstance(item, Problem)] == ["line 3", "line 4"]


def test_an_array_is_read_up_to_a_bound(read: Any) -> None:
    line = b" " * 999_999 + b"\n"
    rows = b'[{"prompt": "a"}]\n'
    assert len(inputs(read(".jsonl", rows + line * 29))) == 1
    message = problem(read(".jsonl", rows + line * 30))
    assert "JSON of more than 30,000,000 bytes, but not JSON Lines: write one row a line" in message


@pytest.mark.parametrize(
    ("suffix", "text", "message"),
    [
        (".txt", '{"prompt": "a fox"}\n', "this is JSON, not a prompt: name the file .jsonl"),
        (".csv", '{"prompt": "a fox"}\n{"prompt": "b"}\n', "this is JSON, not the header of a table"),
        (".txt", "id\tprompt\tseed\n", "this is the header of a table, not a prompt: name the file .csv"),
        (".txt", "Prompts\n", "this is the header of a table"),
    ],
)
def test_a_file_whose_name_says_another_format_than_it_has(read: Any, suffix: str, text: str, message: str) -> None:
    assert message in problem(read(suffix, text))


def test_lines_without_anything_to_see_are_no_prompts(read: Any) -> None:
    assert inputs(read(".txt", "a fox\n\u200b\n \xa0\n\x1a")) == [{"prompt": "a fox"}]


PHOTOS = ["my photos/cat 1.png", " my photos/cat 1.png ", "my photos/at 10:30.png", "a b.png", "My Photos\\cat.png"]
SURELY = [
    "C:\\Users\\me\\my photos\\cat.png",
    "c:/cat.png",
    "FILE:///tmp/a b.png",
    "\\\\host\\share\\a.png",
    "~/a b/c.png",
]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_path_with_blanks_marks_its_row(read: Any, suffix: str) -> None:
    for path in (*PHOTOS, *SURELY):
        (row,) = read(suffix, json.dumps({"input": {"image": path}}) if suffix == ".jsonl" else f'image\n"{path}"\n')
        assert row.names_files


@pytest.mark.parametrize(
    "value", ["https://o.test/my photos/cat 1.png", "s3://a/b c.png", "oil. On canvas", "3/4 view"]
)
def test_text_that_names_no_file_on_disk_is_text(read: Any, value: str) -> None:
    assert inputs(read(".jsonl", json.dumps({"input": {"style": value}}))) == [{"style": value}]


@pytest.mark.parametrize(
    ("suffix", "text", "expected"),
    [
        (".csv", "Prompt,seed\na,1\n", ["line 2: the input 'Prompt' is not 'prompt', and is sent as it is"]),
        (".csv", "prompts\na\n", ["line 2: the input 'prompts' is not 'prompt', and is sent as it is"]),
        (".jsonl", '{"input": {"PROMPT": "a"}}', ["line 1: the input 'PROMPT' is not 'prompt', and is sent as it is"]),
        (".jsonl", '{"prompt": "a", "ID": "x"}', ["line 1: the input 'ID' is not 'id', and is sent as it is"]),
        (".csv", "prompt,Negative Prompt\na,b\n", ["line 2: the input 'Negative Prompt' is not 'negative_prompt', …"]),
        (".csv", "prompt,seeds,images\na,1,x\n", ["line 2: the input 'seeds' is not 'seed', and is sent as it is"]),
        (".csv", "prompt,prompts,seed\na,b,1\n", []),
        (".jsonl", '{"prompt": "a", "scheduler": "x"}', []),
    ],
)
def test_names_that_differ_only_in_case_or_number_are_told(
    tmp_path: Path, suffix: str, text: str, expected: list[str]
) -> None:
    (tmp_path / f"a{suffix}").write_text(text)
    names = KeyNames()
    assert inputs(list(chain.from_iterable(read_prompts(str(tmp_path / f"a{suffix}"), Defaults("o/n"), Ids(), names))))
    assert [warning.split(",")[0] for warning in names.warnings()] == [warning.split(",")[0] for warning in expected]


def test_a_row_whose_prompt_is_misspelt_says_so(read: Any) -> None:
    assert "it has neither input nor prompt: it has 'Prompts'; is 'prompt' meant?" in problem(
        read(".jsonl", '{"Prompts": "a"}')
    )


def test_a_million_different_keys_take_no_memory(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(f'{{"prompt": "a", "k{n}": 1}}\n' for n in range(3000)))
    names = KeyNames()
    list(chain.from_iterable(read_prompts(str(tmp_path / "a.jsonl"), Defaults("o/n"), Ids(), names)))
    assert len(names.known) < 1100
