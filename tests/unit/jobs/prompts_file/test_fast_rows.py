"""A row that is read fast is read as the strict reader does; one that it refuses is never read fast."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import Problem
from jobs.prompts_file.fast_rows import _BETWEEN, Defaults, PlainRows, Row
from jobs.prompts_file.formats import MAX_LINE, Record, _line_records
from jobs.prompts_file.key_names import KeyNames
from jobs.prompts_file.reader import _Reader

VERSION = "0123456789abcdef" * 4
DEFAULTS = Defaults("o/default")

TEXTS = st.text(max_size=12) | st.sampled_from(
    [
        "a.png",
        "/etc/hosts",
        "./x",
        "C:\\x.png",
        "my photos/a cat.png",
        " ./x",
        "\\\\host\\x",
        "s3://a/b.png",
        "@a",
        " @a b",
        "a@b",
        "a\0b",
        "A cat. A dog.",
        "https://o.test/a.png",
        '"',
        "\\",
        "\x7f",
        "é",
        "\U0001f600",
    ]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([2**63, 2**64, -(2**63) - 1, 1e16, 1e-4, 9.9e-5, -0.0, 0])
PLAIN = TEXTS | NUMBERS | st.booleans() | st.none()
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2))
KEYS = st.sampled_from(["prompt", "image", "seed", "text", "url", "body", "model", "id", "z", "A"]) | TEXTS
IDS = st.sampled_from(["a", "A.b", ".a", "index.html", "results.JSONL", "a" * 128, "a" * 129, "", "ä", "a\n"]) | VALUES
MODELS = st.sampled_from(["o/n", f"o/n:{VERSION}", VERSION, "deployments/o/n", "deployments/o", "o", 'o/n"']) | VALUES
INPUTS = st.dictionaries(KEYS, VALUES, max_size=4)
ROWS = st.fixed_dictionaries(
    {},
    optional={"id": IDS, "custom_id": IDS, "model": MODELS, "input": INPUTS | VALUES, "prompt": PLAIN, "seed": PLAIN},
)
NAMES = {"id": st.sampled_from(["a", "A.b", "_" * 128]), "model": st.sampled_from(["o/n", f"o/n:{VERSION}", VERSION])}
USUAL = st.fixed_dictionaries({"prompt": TEXTS}, optional={**NAMES, "seed": PLAIN, "image": PLAIN, "text": TEXTS}) | (
    st.fixed_dictionaries({"input": st.dictionaries(KEYS, PLAIN, max_size=4)}, optional=NAMES)
)
PIECES = st.sampled_from(
    rb'" \ \u0022 \ud800 "a":1, "prompt":"", { } [ ] , : 0 - . e9 e999 NaN / 99999999999999999999'.split()
) | st.sampled_from([b" ", b"\t", b"\r", b"\x0b", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf"])


def plain(line: bytes, defaults: Defaults = DEFAULTS) -> Row | None:
    (found,) = PlainRows(defaults, KeyNames()).read([line], 7)
    return found


def strict(
    line: bytes, defaults: Defaults = DEFAULTS, number: int = 7, names: KeyNames | None = None
) -> list[Row | Problem]:
    reader = _Reader(defaults, names or KeyNames())
    records: list[Record] = _line_records(number, [line], None)
    return [item for record in records for item in reader.read(record)]


@settings(max_examples=400, deadline=None)
@given(
    row=USUAL | ROWS,
    as_ascii=st.booleans(),
    spaces=st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", "\r: ")]),
    changes=st.just([]) | st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2), PIECES), max_size=3),
    given_input=st.just({}) | st.dictionaries(KEYS, VALUES, max_size=2),
)
def test_what_is_read_fast_is_what_the_strict_reader_reads(
    row: Any,
    *,
    as_ascii: bool,
    spaces: tuple[str, str],
    changes: list[tuple[int, int, bytes]],
    given_input: dict[str, Any],
) -> None:
    line = json.dumps(row, ensure_ascii=as_ascii, separators=spaces).encode("utf-8", "surrogatepass")
    for place, length, piece in changes:
        before, after = line[: place % (len(line) + 1)], line[place % (len(line) + 1) + length :]
        line = before + piece + after
    for defaults in (DEFAULTS, Defaults(), Defaults("o/n", given_input)):
        found = plain(line, defaults)
        assert found is None or [found] == strict(line, defaults)


LINES = st.lists(
    (USUAL | ROWS).map(lambda row: json.dumps(row).encode("utf-8", "surrogatepass"))
    | st.sampled_from(
        [
            b"",
            b"\r",
            b'{"prompt":"x"},{"prompt":"y"}',
            b'{"prompt":"x"}{"prompt":"y"}',
            b'"id"',
            b"[1]",
            b"null",
            b'{"prompt":"x"',
            b'"seed":1}',
            b'{"prompt":"x","a":[{"b":1}',
            b'{"c":2}]}',
            b'{"prompt":"x","a":[1',
            b"2]}",
            b'{"prompt":"x","prompt":"y"}',
            b'{"prompt":"\\u0022"}',
            b'{"prompt":"x},{\\"id\\":\\"","text":"},{"}',
            b'{"id":"a","input":{"},{":"id"}}',
            b'{"prompt":"%s"}' % _BETWEEN,
            b'{"prompt":"x"},"%s",{"prompt":"y"}' % _BETWEEN,
            b'{"prompt":"x"},"\\u0037%s",{"prompt":"y"}' % _BETWEEN[1:],
        ]
    ),
    max_size=6,
)


@settings(max_examples=400, deadline=None)
@given(lines=LINES, given_input=st.just({}) | st.dictionaries(KEYS, PLAIN, max_size=2))
def test_lines_that_are_read_together_are_what_each_is_by_itself(
    lines: list[bytes], given_input: dict[str, Any]
) -> None:
    defaults, names, strict_names = Defaults("o/default", given_input), KeyNames(), KeyNames()
    found = PlainRows(defaults, names).read(lines, 7) if lines else []
    assert len(found) == len(lines)
    for number, (line, row) in enumerate(zip(lines, found, strict=True), 7):
        wanted = strict(line, defaults, number, strict_names)
        if row:
            assert wanted == [row]
        else:
            strict(line, defaults, number, names)
    assert names.warnings() == strict_names.warnings()


def test_lines_that_are_values_only_together_are_not_plain() -> None:
    lines = [b'{"prompt":"x","a":["b"', b'"c"]}', b'{"prompt":"y"},"",{"prompt":"z"}']
    assert PlainRows(DEFAULTS, KeyNames()).read(lines, 1) == [None] * 3
    lines = [b'{"prompt":"x","a":["b"', b'"c"]}', b'{"prompt":"y"},"%s",{"prompt":"z"}' % _BETWEEN]
    assert PlainRows(DEFAULTS, KeyNames()).read(lines, 1) == [None] * 3


def test_an_odd_line_leaves_its_neighbours_plain() -> None:
    good, late = b'{"prompt":"A cat."}', b'{"input":{"image":"a.png","Prompt":"x"}}'
    for odd in (b"", b"[]", b'{"prompt":"a","prompt":"b"}', b'{"prompt":"a\\u0000"}', late, b"\xff", b'{"seed":1}'):
        found = PlainRows(DEFAULTS, KeyNames()).read([good] * 5 + [odd] + [good] * 3, 1)
        assert [row.line for row in found if row] == [1, 2, 3, 4, 5, 7, 8, 9]
        assert all(row is None or [row] == strict(good, DEFAULTS, row.line) for row in found)


@settings(max_examples=200, deadline=None)
@given(prompt_id=st.sampled_from(["a--seed-1", "_" * 128]), model=MODELS, values=INPUTS)
def test_a_variant_that_is_read_fast_is_what_the_strict_reader_reads(prompt_id: str, model: Any, values: Any) -> None:
    for row in ({"id": prompt_id, "input": values}, {"id": prompt_id, "input": values, "model": model}):
        found = PlainRows(DEFAULTS, KeyNames()).read_values(dict(row), 7)
        assert found is None or [found] == _Reader(DEFAULTS, KeyNames()).read(Record(7, 7, row))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "A cat."},
        {"prompt": "über/unter", "seed": 3, "negative_prompt": "a.b", "go": True, "mask": None, "guidance": 3.5},
        {"id": "x.y", "model": f"o/n:{VERSION}", "input": {"image": "https://o.test/a.png", "strength": 0.0}},
        {"id": "A" * 128, "model": VERSION, "input": {}},
        {"id": "a", "prompt": 'he said "no"\n\x7f', "ratio": "16:9"},
    ],
)
def test_the_usual_rows_are_read_fast(row: dict[str, Any]) -> None:
    line = json.dumps(row).encode()
    assert [plain(line)] == strict(line)
    assert plain(b" " + line + b"\t\r") == plain(line)


@pytest.mark.parametrize(
    "line",
    [
        b'{"prompt":"a","prompt":"b"}',
        b'{"prompt":"a","seed":1,"seed":1}',
        b'{"prompt":"a","prompt":"\\u0022\\u0022"}',
        b'{"input":{"prompt":"a"},"input":{"prompt":"b"}}',
        b'{"prompt":"a","seed":18446744073709551616}',
        b'{"prompt":"a","seed":1e999}',
        b'{"prompt":"a","seed":NaN}',
        b'{"prompt":"a","x":1e16}',
        b'{"prompt":"a","x":0.00001}',
        b'{"prompt":"a","image":"a.png"}',
        b'{"prompt":"a","list":[]}',
        b'{"prompt":"a","custom_id":"b"}',
        b'{"prompt":"\\ud800"}',
        b'{"prompt":"a\\u0000"}',
        b'{"prompt":"a","\\u0000":1}',
        b'{"prompt":"a","image":"my photos/a cat.png"}',
        b'{"id":null,"prompt":"a"}',
        b'{"id":"","prompt":"a"}',
        b'{"id":"index.html","prompt":"a"}',
        b'{"model":null,"prompt":"a"}',
        b'{"input":{"prompt":"a"},"seed":1}',
        b'{"input":null}',
        b'{"input":[]}',
        b'{"input":""}',
        b'{"input":{},"prompt":"a"}',
        b'{"prompt":"a","input":{}}',
        b'{"seed":1}',
        b"[]",
        b'"a prompt"',
        b'"id"',
        b"3",
        b"null",
        b"",
    ],
)
def test_what_is_odd_is_left_to_the_strict_reader(line: bytes) -> None:
    assert plain(line) is None


def test_a_row_that_is_too_long_once_its_defaults_are_in_it_is_not_plain() -> None:
    line = b'{"prompt":"%s"}' % (b"a" * (MAX_LINE - 13))
    assert len(line) == MAX_LINE
    assert plain(line) is None
    assert isinstance(strict(line)[0], Problem)


def test_defaults_that_json_cannot_say_are_left_to_the_strict_reader() -> None:
    line = b'{"prompt":"a"}'
    for value in (2**64, float("nan"), "\udc80", "a\0", [{"x": "\0"}]):
        assert plain(line, Defaults("o/n", {"seed": value})) is None
