from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.errors import Problem
from jobs.names import model_problem, name_problem
from jobs.prompts_file.formats import MAX_LINE
from jobs.prompts_file.reader import Defaults, Ids, Row, read_prompts

VERSION = "0123456789abcdef" * 4
Read = Callable[..., list[Row | Problem]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(*lines: Any, model: str | None = "owner/name", **values: Any) -> list[Row | Problem]:
        path = tmp_path / "prompts.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
        return list(chain.from_iterable(read_prompts(str(path), Defaults(model, values), Ids())))

    return read


def kept(row: Row | Problem) -> dict[str, Any]:
    assert isinstance(row, Row), row
    fields: dict[str, Any] = json.loads(row.text)
    return fields


def messages(found: list[Row | Problem]) -> list[str]:
    assert all(isinstance(item, Problem) for item in found)
    return [str(item) for item in found]


def test_a_row_in_long_form_is_kept_as_it_is(read: Read) -> None:
    row = {"id": "a.1", "model": f"owner/name:{VERSION}", "input": {"prompt": "ü", "seed": 1, "x": [None, 0.5]}}
    (found,) = read(row)
    assert kept(found) == row
    assert isinstance(found, Row)
    assert (found.line, found.id) == (1, "a.1")


def test_all_keys_of_the_short_form_but_id_and_model_are_input(read: Read) -> None:
    (found,) = read({"prompt": "fox", "seed": 1, "custom_id": "a", "model": "o/n"})
    assert kept(found) == {"id": "a", "model": "o/n", "input": {"prompt": "fox", "seed": 1}}


def test_rows_without_an_id_are_named_after_their_physical_line(read: Read) -> None:
    found = read({"prompt": "a"}, "", "   ", {"prompt": "b"})
    assert [kept(row)["id"] for row in found] == ["000001", "000004"]


def test_defaults_fill_what_is_missing_and_the_row_wins(read: Read) -> None:
    found = read({"input": {"seed": 1}}, {"model": "o/mine", "prompt": "p"}, model="o/default", seed=7, steps=4)
    assert [(kept(row)["model"], kept(row)["input"]) for row in found] == [
        ("o/default", {"seed": 1, "steps": 4}),
        ("o/mine", {"seed": 7, "steps": 4, "prompt": "p"}),
    ]


def test_a_default_prompt_serves_the_short_form(read: Read) -> None:
    assert kept(read({"seed": 1}, prompt="fox")[0])["input"] == {"prompt": "fox", "seed": 1}


def test_equal_rows_have_equal_texts_whatever_their_order(read: Read) -> None:
    one, *_ = read('{"id": "a", "input": {"prompt": "x", "b": {"c": 1, "d": 2}}}')
    two, *_ = read('{"input": {"b": {"d": 2, "c": 1}, "prompt": "\\u0078"}, "id": "a"}')
    assert isinstance(one, Row)
    assert isinstance(two, Row)
    assert one.text == two.text


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "not JSON: Expecting property name"),
        ('{"prompt": "a"} {"prompt": "b"}', "not JSON: more text after the row"),
        ('["a"]', "a row is an object"),
        ("12", "a row is an object"),
        ('{"prompt": "a", "prompt": "b"}', "the key 'prompt' is there twice"),
        ('{"input": {"a": 1, "a": 1}}', "the key 'a' is there twice"),
        ('{"prompt": NaN}', "NaN is not JSON"),
        ('{"input": {"x": -Infinity}}', "-Infinity is not JSON"),
        ('{"input": {"x": 1e999}}', "a number is too large"),
        ('{"input": {"x": %s}}' % ("9" * 5000), "Exceeds the limit"),
        ('{"prompt": "\\ud800"}', "surrogate"),
        ('{"input": {"\\udfff": 1}}', "surrogate"),
        ('{"input": {"key": {"$env": "A B"}}}', '\'input.key\': {"$env": "NAME"} has the name of'),
        ('{"input": {"key": {"$env": "REPLICATE_API_TOKEN"}}}', "a setting of this tool, and is never sent"),
        ('{"input": {"key": {"$secret": "x"}}}', "is how a batch keeps a secret; write the secret itself"),
        ('{"input": {"keys": [{"$env": "KEY"}]}}', "must be the whole value of one key"),
        ('{"input": {"$env": "REPLICATE_API_TOKEN"}}', "must be the whole value of one key"),
        ('{"prompt": "a", "$env": "KEY"}', "must be the whole value of one key"),
        ('{"input": ' + '{"a":' * 150 + "1" + "}" * 151, "nested deeper than 100"),
        ("[" * 500_000, "nested too deeply"),
        ('{"seed": 1}', "neither input nor prompt"),
        ("{}", "neither input nor prompt"),
        ('{"input": "a fox"}', "input is not an object"),
        ('{"input": null}', "input is not an object"),
        ('{"input": {}, "seed": 1}', "unknown key 'seed' beside input"),
        ('{"custom_id": "a", "method": "POST", "body": {}}', "another service's batch format"),
        ('{"prompt": "a", "url": "/v1"}', "a row with 'url' is in another service's"),
        ('{"id": "a", "custom_id": "a", "prompt": "b"}', "both id and custom_id"),
        ('{"id": 7, "prompt": "a"}', "the id is not text: put it in quotes"),
        ('{"id": null, "prompt": "a"}', "the id is not text"),
        ('{"model": 7, "prompt": "a"}', "the model is not text"),
        ('{"model": "flux", "prompt": "a"}', "'flux' is not a model: write owner/name, owner/name:<64 hex digits>"),
        ('{"id": "../../x", "prompt": "a"}', "the id '../../x' is not 1 to 128 characters"),
        ('{"id": "prompts.jsonl", "prompt": "a"}', "one of the batch's own files"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(read: Read, row: str, reason: str) -> None:
    (message,) = messages(read(row))
    assert message.startswith("line 1: ")
    assert reason in message


def test_all_that_is_wrong_with_a_row_is_said_at_once(read: Read) -> None:
    found = messages(read({"id": "", "model": "x", "seed": 1}))
    assert [message.split()[2] for message in found] == ["the", "'x'", "it"]


def test_every_wrong_line_is_reported_and_the_good_ones_read(read: Read) -> None:
    found = read({"prompt": "a"}, "x", {"prompt": "b"}, {"id": "."})
    assert [item.line for item in found] == [1, 2, 3, 4, 4]
    assert [isinstance(item, Row) for item in found] == [True, False, True, False, False]


def test_a_row_without_a_model_anywhere_is_wrong(read: Read) -> None:
    assert "give --model or BATCH_MODEL" in messages(read({"prompt": "a"}, model=None))[0]


def test_a_wrong_default_model_is_reported_once(read: Read) -> None:
    found = messages(read({"prompt": "a"}, {"prompt": "b"}, model="flux"))
    assert len(found) == 1
    assert found[0].startswith("--model or BATCH_MODEL: 'flux' is not a model")


def test_an_id_that_is_there_already_names_the_first_line(read: Read) -> None:
    found = read(
        {"id": "Fox", "prompt": "a"}, {"prompt": "b"}, {"id": "fOX", "prompt": "c"}, {"id": "000002", "prompt": "d"}
    )
    assert messages(found[2:]) == [
        "line 3: the id 'fOX' is that of line 1 already",
        "line 4: the id '000002' is that of line 2 already",
    ]


def test_the_ids_know_place_and_line_of_each(read: Read, tmp_path: Path) -> None:
    read("", {"id": "A", "prompt": "a"}, {"id": "B", "prompt": "b"})
    ids = Ids()
    list(chain.from_iterable(read_prompts(str(tmp_path / "prompts.jsonl"), Defaults("o/n"), ids)))
    assert (len(ids), ids.find("b"), ids.find("c"), ids.line(1)) == (2, 1, None, 3)


def test_a_file_without_any_row_is_wrong(read: Read) -> None:
    assert messages(read("", " ")) == ["there is no prompt in it"]


@pytest.mark.parametrize(
    "model",
    ["owner/name", "Owner-1/na.me_2", f"owner/name:{VERSION}", VERSION, "deployments/owner/name"],
)
def test_these_are_models(model: str) -> None:
    assert model_problem(model) is None


@pytest.mark.parametrize(
    "model",
    [
        "",
        "name",
        "owner/",
        "/name",
        "owner/name:latest",
        f"owner/name:{VERSION[1:]}",
        VERSION.upper(),
        "deployments/name",
        "deployments/owner/name/x",
        f"deployments/owner/name:{VERSION}",
        "owner/name ",
        "owner/../name",
        "https://replicate.com/owner/name",
        "owner/name\n",
        "öwner/name",
    ],
)
def test_these_are_no_models(model: str) -> None:
    assert "is not a model" in str(model_problem(model))


@pytest.mark.parametrize("name", ["a", "A-Z_0.9", "-", "_x", "a" * 128, "index-.html", "results.json"])
def test_these_are_ids(name: str) -> None:
    assert name_problem(name, 128) is None


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "a/b", "a b", "ä", "a\n", "a" * 129, "Index-2.HTML", "batch.json", "٣"]
)
def test_these_are_no_ids(name: str) -> None:
    assert name_problem(name, 128)


@pytest.mark.parametrize("value", ["cat.png", "pets/cat", "file:///etc/x", "~/a cat.png", "./x", "../x", "@cat", " @a"])
def test_a_row_with_a_path_is_marked(read: Read, value: str) -> None:
    for values in ({"image": value}, {"deep": [{"image": value}]}):
        (row,) = read({"input": values})
        assert isinstance(row, Row)
        assert row.names_files


def test_what_a_batch_keeps_of_a_file_is_refused(read: Read) -> None:
    for value in ({"$file": "cat.png"}, [{"$file": "/cat.png", "sha256": "0" * 64, "size": 3}]):
        (message,) = messages(read({"input": {"image": value}}))
        assert '{"$file": …} is how a batch keeps a file that it has found; write "@PATH"' in message


@pytest.mark.parametrize(
    "value",
    [
        "https://example.com/cat.png",
        "data:image/png;base64,aGVsbG8=",
        "webp",
        "16:9",
        "x" * 300 + " " + "y" * 190,
        "",
        "~",
        "pets",
    ],
)
def test_a_row_without_a_path_is_not_marked(read: Read, value: str) -> None:
    (row,) = read({"input": {"image": value}})
    assert isinstance(row, Row)
    assert not row.names_files
    assert kept(row)["input"] == {"image": value}


@pytest.mark.parametrize("key", ["prompt", "negative_prompt", "text", "caption"])
def test_a_key_that_holds_text_names_no_file(read: Read, key: str) -> None:
    rows = read({"input": {key: "cat.png"}}, {"input": {key: "./configure"}}, {"input": {key: "@cat"}})
    rows += read({"input": {"messages": [{"role": "./x", "content": "cat.png"}]}})
    assert not any(row.names_files for row in rows if isinstance(row, Row))
    assert all(isinstance(row, Row) for row in rows)


@pytest.mark.parametrize("key", ["image_prompt", "context_image", "mask", "input_file"])
def test_a_key_that_holds_a_file_may(read: Read, key: str) -> None:
    (row,) = read({"input": {key: "cat.png"}})
    assert isinstance(row, Row)
    assert row.names_files


def test_a_row_that_grows_by_its_defaults_is_bounded_too(read: Read) -> None:
    (message,) = messages(read({"input": {"a": "x" * (MAX_LINE // 2)}}, b="y" * (MAX_LINE // 2)))
    assert "the row is larger than 2,000,000 bytes" in message


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def local(value: Any) -> bool:
    """Whether the parser may take it for a file of this machine, or for no text."""
    text = json.dumps(value, ensure_ascii=False).casefold()
    return any(mark in text for mark in ("file:/", "~/", "./", ".\\", ":/", ":\\", "\\\\", "\\u0000"))


@settings(deadline=None)
@given(values=st.dictionaries(st.text(), JSON, max_size=4).filter(lambda values: not local(values)))
def test_every_input_comes_through_unchanged(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.jsonl"
    path.write_text(json.dumps({"id": "a", "input": values}))
    (found,) = chain.from_iterable(read_prompts(str(path), Defaults("o/n"), Ids()))
    assert kept(found)["input"] == values


@settings(deadline=None)
@given(data=st.binary(max_size=300), suffix=st.sampled_from([".jsonl", ".jsonl.gz", ".csv", ".txt"]))
@example(data=b'{"prompt": "a"}\n\xff\n{"prompt": "b"}', suffix=".jsonl")
@example(data=b"prompt\n\xff", suffix=".csv")
@example(data=b"\x1f\x8b\x08", suffix=".jsonl.gz")
@example(data=b'a,b\n"x', suffix=".csv")
@example(data=b"\xff\xfea", suffix=".txt")
@example(data=b'[{"prompt"', suffix=".jsonl")
@example(data=b"[,]]1 2", suffix=".jsonl")
@example(data=b'""\n', suffix=".csv")
def test_no_bytes_break_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"bytes{suffix}"
    path.write_bytes(data)
    found = list(chain.from_iterable(read_prompts(str(path), Defaults("o/n"), Ids())))
    assert found
    for item in found:
        str(item).encode()


@given(names=st.lists(st.text("abAB12.-_", min_size=1, max_size=3), max_size=12))
def test_ids_are_unique_without_regard_to_case(names: list[str]) -> None:
    ids = Ids()
    taken = [name for line, name in enumerate(names, 1) if ids.add(name, line) is None]
    assert len({name.lower() for name in names}) == len(taken) == len(ids)
    for place, name in enumerate(taken):
        assert ids.find(name.swapcase()) == place
        assert names[ids.line(place) - 1] == name
