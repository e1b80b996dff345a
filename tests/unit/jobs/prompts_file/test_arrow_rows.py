"""Parquet and Arrow files: their values as JSON, and what is wrong with them."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import ipc, parquet

from tests.imports import loaded_by
from tests.unit.jobs.prompts_file.rows import read

PROMPTS = pa.table({"id": ["a", "b", "c"], "prompt": ["x", "y", "z"], "seed": [1, None, 2**63 - 1]})


def write(path: Path, table: pa.Table = PROMPTS, **more: Any) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(table, path, **more)
    elif more.pop("stream", False):
        with ipc.new_stream(str(path), table.schema) as stream:
            stream.write_table(table, **more)
    else:
        with ipc.new_file(str(path), table.schema) as file:
            file.write_table(table, **more)
    return path


def inputs(path: Path, **columns: str) -> list[Any]:
    return [row["input"] if isinstance(row, dict) else row for row in read(path, **columns)]


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("a.parquet", {}),
        ("A.PARQUET", {"row_group_size": 1}),
        ("b.parquet", {"compression": "zstd"}),
        ("c.arrow", {}),
        ("d.arrow", {"stream": True}),
        ("e.arrow", {"stream": True, "max_chunksize": 1}),
    ],
)
def test_rows(tmp_path: Path, name: str, more: dict[str, Any]) -> None:
    path = write(tmp_path / name.lower(), **more).rename(tmp_path / name)
    assert read(path) == [
        {"id": "a", "model": "o/n", "input": {"prompt": "x", "seed": 1}},
        {"id": "b", "model": "o/n", "input": {"prompt": "y"}},
        {"id": "c", "model": "o/n", "input": {"prompt": "z", "seed": 2**63 - 1}},
    ]
    assert read(path, seed="", prompt="text")[0] == {"id": "a", "model": "o/n", "input": {"text": "x"}}
    assert read(path, sed="")[-1].endswith("no row has a column 'sed'; is 'seed' meant?")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
        (pa.array([-5], pa.int8()), -5),
        (pa.array([7.1], pa.float32()), 7.1),
        (pa.array([7.1], pa.float64()), 7.1),
        (pa.array([0.1], pa.float16()), 0.1),
        (pa.array([3.0], pa.float32()), 3.0),
        (pa.array([True]), True),
        (pa.array([Decimal("1.50")]), 1.5),
        (pa.array([Decimal(12)], pa.decimal128(5, 0)), 12),
        (pa.array(["red"]).dictionary_encode(), "red"),
        (pa.array(["red"], pa.large_string()), "red"),
        (pa.array([[1, None, 2]]), [1, None, 2]),
        (pa.array([[0.1, 7.1]], pa.list_(pa.float32(), 2)), [0.1, 7.1]),
        (pa.array([{"a": 1, "b": {"c": None}}]), {"a": 1, "b": {"c": None}}),
        (pa.array([date(2026, 1, 2)]), "2026-01-02"),
        (pa.array([time(3, 4, 5)]), "03:04:05"),
        (pa.array([datetime(2026, 1, 2, 3, 4, tzinfo=UTC)], pa.timestamp("s", "UTC")), "2026-01-02T03:04:00+00:00"),
        (pa.array([1_700_000_000_123_456_789], pa.timestamp("ns")), "2023-11-14T22:13:20.123456"),
    ],
)
def test_values(tmp_path: Path, values: Any, expected: Any) -> None:
    table = pa.table({"prompt": ["x"], "value": values})
    assert inputs(write(tmp_path / "a.arrow", table)) == [{"prompt": "x", "value": expected}]
    if not pa.types.is_float16(values.type):
        assert inputs(write(tmp_path / "a.parquet", table)) == [{"prompt": "x", "value": expected}]


@pytest.mark.parametrize("values", [pa.array([None]), pa.array([float("nan")]), pa.array([None], pa.list_(pa.int8()))])
def test_what_has_no_value_is_not_sent(tmp_path: Path, values: Any) -> None:
    assert inputs(write(tmp_path / "a.parquet", pa.table({"prompt": ["x"], "value": values}))) == [{"prompt": "x"}]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (pa.array([b"\x89PNG"]), "line 1: the column 'value' has bytes, such as pictures, which cannot be sent yet"),
        (pa.array([{"bytes": b"", "path": "a.png"}]), "the column 'value' has bytes, such as pictures"),
        (pa.array([timedelta(1)]), "has values of the type duration[us], which JSON does not have"),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())), "of the type map<"),
        (pa.array([Decimal("0.12345678901234567891")]), "line 1: 'value': 0.12345678901234567891 has more digits"),
        (pa.array([float("inf")]), "line 1: a number is too large"),
    ],
)
def test_what_json_does_not_have_is_told(tmp_path: Path, values: Any, problem: str) -> None:
    path = write(tmp_path / "a.arrow", pa.table({"prompt": ["x"], "value": values}))
    (found,) = read(path)
    assert problem in found
    assert inputs(path, value="") == [{"prompt": "x"}]
    if "column" in problem:
        assert "leave it out by --map value=; the rest was not checked" in found


def test_ids_may_be_numbers_and_the_index_of_pandas_is_no_column(tmp_path: Path) -> None:
    table = pa.table({"id": [7], "prompt": ["x"], "model": ["a/b"], "__index_level_0__": [0]})
    assert read(write(tmp_path / "a.parquet", table)) == [{"id": "7", "model": "a/b", "input": {"prompt": "x"}}]
    assert read(write(tmp_path / "b.parquet", PROMPTS), id="")[2]["id"] == "000003"
    (found,) = read(write(tmp_path / "c.parquet", pa.table({"number": [1.5], "prompt": ["x"]})), number="id")
    assert found == "line 1: the id is not text: put it in quotes"


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
@pytest.mark.parametrize("left", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_file_that_is_cut_off(tmp_path: Path, name: str, left: float) -> None:
    table = pa.table({"prompt": [f"prompt {number * 7919}" for number in range(5000)]})
    path = write(tmp_path / name, table)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * left)])
    *_, last = read(path)
    assert "cut off or damaged" in last or "does not begin as" in last or "there is no prompt" in last


def test_a_stream_that_is_cut_off_is_read_to_the_cut(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow", stream=True, max_chunksize=1)
    path.write_bytes(path.read_bytes()[:-150])
    assert "cut off or damaged" in read(path)[-1]


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, place: int, value: int) -> None:
    for name in ("damaged.parquet", "damaged.arrow"):
        path = write(tmp_path_factory.getbasetemp() / name)
        data = bytearray(path.read_bytes())
        data[place % len(data)] = value
        path.write_bytes(data)
        assert read(path)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.parquet", b"id,prompt\n", "the file does not begin as a Parquet file"),
        ("a.parquet", b"ARROW1\0\0", "a Parquet file: it is an Arrow file"),
        ("a.parquet", b"PARE", "a Parquet file: it is encrypted"),
        ("a.parquet", b"", "a Parquet file: it is empty"),
        ("a.arrow", b"PAR1....", "an Arrow file: it is a Parquet file"),
        ("a.arrow", b"FEA1....", "an Arrow file: it is an old Feather file"),
        ("a.jsonl", b"PAR1\x15\x04", "this is a Parquet file; name it .parquet"),
        ("a.csv", b"ARROW1\0\0", "this is an Arrow file; name it .arrow"),
    ],
)
def test_a_wrong_extension(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert reason in read(tmp_path / name)[0]


def test_names_that_are_there_twice(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], ["prompt", "prompt"])
    assert "the column 'prompt' is there twice" in read(write(tmp_path / "a.arrow", table))[0]
    assert "--map id=prompt: there is another 'prompt'" in read(write(tmp_path / "b.parquet"), id="prompt")[0]


def test_no_row(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.parquet", PROMPTS.slice(0, 0))) == ["there is no prompt in it"]


def test_without_pyarrow_the_extra_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from jobs.prompts_file.reader import Defaults, Ids, read_prompts\n"
        "try: list(read_prompts(sys.argv[1], Defaults('o/n'), Ids()))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("InputError ")
    assert "pip install 'replicate-batch[parquet]'" in done.stdout


def test_pyarrow_is_loaded_only_where_it_is_needed() -> None:
    assert "pyarrow" not in loaded_by("import jobs.cli.app, jobs.enqueue.enqueue")


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=20))
def test_short_floats_are_stored_as_the_ones_that_were_read(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[float]
) -> None:
    table = pa.table({"prompt": ["x"] * len(numbers), "g": pa.array(numbers, pa.float32())})
    found = [row["g"] for row in inputs(write(tmp_path_factory.getbasetemp() / "floats.parquet", table))]
    assert pa.array(found, pa.float32()).equals(pa.array(numbers, pa.float32()))
