"""Values of an input that name local files become references, by their schemas and by their spelling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.input_files.local_files import LocalFiles, UnfitFile
from jobs.input_files.reference import FileReference
from jobs.input_files.resolver import FileResolver

URI: dict[str, Any] = {"type": "string", "format": "uri"}
SCHEMAS: dict[str, Any] = {
    "image": URI,
    "caption_file": URI,
    "content": URI,
    "images": {"type": "array", "items": URI},
    "faces": {"type": "array", "items": {"type": "object", "properties": {"face": URI}}},
    "either": {"anyOf": [URI, {"type": "string"}]},
    "style": {"type": "string"},
    "prompt": {"type": "string"},
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "harbour", "@odd.png"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "owner").mkdir()
    return tmp_path


def reference(home: Path, name: str) -> Any:
    found = LocalFiles(home).find(name)
    assert isinstance(found, FileReference)
    return found.as_value()


def resolve(home: Path, key: str, value: Any, schemas: dict[str, Any]) -> Any:
    """The value, or what is wrong with it."""
    found, problems = FileResolver(home).resolve({key: value}, schemas)
    return [problem.message for problem in problems] or found[key]


@pytest.mark.parametrize("schemas", [SCHEMAS, {}], ids=["schema", "no schema"])
@pytest.mark.parametrize("key", ["image", "style", "caption_file", "either"])
def test_a_path_after_an_at_sign(home: Path, key: str, schemas: dict[str, Any]) -> None:
    assert resolve(home, key, "@a.png", schemas) == reference(home, "a.png")
    assert resolve(home, key, " @harbour ", schemas) == reference(home, "harbour")
    assert resolve(home, key, ["@a.png", {"face": "@b.png"}, 3], schemas) == [
        reference(home, "a.png"),
        {"face": reference(home, "b.png")},
        3,
    ]


@pytest.mark.parametrize(
    ("key", "value", "names"),
    [
        ("image", "a.png", "a.png"),
        ("image", "harbour", "harbour"),
        ("image", "./a.png", "a.png"),
        ("image", "@odd.png", "@odd.png"),
        ("caption_file", "a.png", "a.png"),
        ("content", "a.png", "a.png"),
        ("either", "a.png", "a.png"),
    ],
)
def test_a_plain_path_where_the_schema_wants_a_file(home: Path, key: str, value: str, names: str) -> None:
    assert resolve(home, key, value, SCHEMAS) == reference(home, names)


def test_one_file_where_a_list_of_files_is_wanted(home: Path) -> None:
    assert resolve(home, "images", "@a.png", SCHEMAS) == [reference(home, "a.png")]
    assert resolve(home, "images", "harbour", SCHEMAS) == [reference(home, "harbour")]
    assert resolve(home, "images", "@gone.png", SCHEMAS) == [f"'images[0]' names {home}/gone.png, which does not exist"]
    for value in ('["a.png"]', "https://a.test/a.png", "@a.png"):
        schema = {} if value == "@a.png" else SCHEMAS
        assert not isinstance(resolve(home, "images", value, schema), list)


def test_outputs_of_batches(home: Path) -> None:
    def find_output(name: str) -> Path | UnfitFile:
        return home / "a.png" if name == "night/p1/output" else UnfitFile("file", f"no output {name}")

    def outputs(key: str, value: Any) -> Any:
        found, problems = FileResolver(home, find_output).resolve({key: value}, SCHEMAS)
        return [problem.message for problem in problems] or found[key]

    for key in ("image", "style", "unknown"):
        assert outputs(key, " @batch:night/p1/output ") == reference(home, "a.png")
        assert outputs(key, "@batch:night/p2") == [f"'{key}' names no output night/p2"]
    assert outputs("images", "@batch:night/p1/output") == [reference(home, "a.png")]
    assert outputs("content", "@batch:night/p1/output") == reference(home, "a.png")
    assert outputs("prompt", "@batch:night/p1/output") == "@batch:night/p1/output"


def test_files_inside_lists_and_objects(home: Path) -> None:
    assert resolve(home, "images", ["a.png", "https://a.test/b.png"], SCHEMAS) == [
        reference(home, "a.png"),
        "https://a.test/b.png",
    ]
    assert resolve(home, "faces", [{"face": "b.png", "at": "1.5"}], SCHEMAS) == [
        {"face": reference(home, "b.png"), "at": "1.5"}
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image", "https://a.test/a.png"),
        ("image", "data:,x"),
        ("image", " "),
        ("image", None),
        ("style", "@someone"),
        ("style", "@john.doe"),
        ("style", "@owner/name"),
        ("style", "@owner"),
        ("style", "oil. On canvas"),
        ("style", "missing.png"),
        ("style", "owner/name"),
        ("style", "x" * 300 + "." + "y" * 190),
        ("either", "a cat. And a dog"),
        ("prompt", "@a.png"),
        ("prompt", "a.png"),
        ("negative_prompt", "./a.png"),
        ("unknown", [1, None, "@someone"]),
        ("image", "iVBORw0KGgo/" * 400),
    ],
)
def test_other_values_stay_as_they_are(home: Path, key: str, value: Any) -> None:
    assert resolve(home, key, value, SCHEMAS) == value
    if key != "image":
        assert resolve(home, key, value, {}) == value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image", "c.png", "'image' names {home}/c.png, which does not exist"),
        ("image", "@owner", "'image' names {home}/owner, which is a directory, not a file"),
        ("images", ["a.png", "gone.tar"], "'images[1]' names {home}/gone.tar, which does not exist"),
        ("faces", [{"face": "gone.tar"}], "'faces[0].face' names {home}/gone.tar, which does not exist"),
        ("style", "@stills/a.png", "'style' names {home}/stills/a.png, and there is no folder {home}/stills"),
        ("style", "@./zebra", "'style' names {home}/zebra, which does not exist"),
        ("style", "a.png", "'style': 'a.png' names a local file; write '@a.png' to upload it, or give an https URL"),
        ("style", "./zebra", "'style': './zebra' names a local file; write '@./zebra' to upload it, or give an"),
        ("either", "./zebra", "'either': './zebra' names a local file; write '@./zebra' to upload it, or give an"),
    ],
)
def test_what_is_wrong_with_a_path(home: Path, key: str, value: Any, message: str) -> None:
    (found,) = resolve(home, key, value, SCHEMAS)
    assert found.startswith(message.format(home=home))


def test_without_a_schema_a_plain_path_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("a.png", str(home / "a.png"), "C:\\a.png", "file:///etc/x"):
        (found,) = resolve(home, "image", value, {})
        assert f"{value!r} names a local file; write {'@' + value!r} to upload it" in found
    monkeypatch.chdir(home)
    assert resolve(home / "owner", "image", "a.png", {})[0].startswith("'image': 'a.png' names a local file")


def test_a_file_that_is_wrong_leaves_a_reference_for_the_check_of_the_rest(home: Path) -> None:
    found, problems = FileResolver(home).resolve({"image": "@gone.png", "images": ["a.png"]}, SCHEMAS)
    assert found == {"image": FileReference("gone.png", "0" * 64, 0).as_value(), "images": [reference(home, "a.png")]}
    assert [problem.kind for problem in problems] == [("missing", "image", f"{home}/gone.png, which does not exist")]


def test_references_are_left_alone(home: Path) -> None:
    values = {"image": reference(home, "a.png"), "images": [reference(home, "b.png")]}
    assert FileResolver(home).resolve(values, SCHEMAS) == (values, [])
