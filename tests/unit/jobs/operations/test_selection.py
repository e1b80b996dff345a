from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.batch_folder.folder import Folder
from jobs.errors import InputError
from jobs.operations.selection import Selection
from jobs.state.batches import Bits
from jobs.wire import Failure, Outcome, Result

VERSION = "owner/other:" + "0" * 64


def write_record(folder: Folder, place: str, index: int, status: Outcome, failure: Failure | None) -> None:
    result = Result(id=f"p{index}", index=index, status=status, model="owner/name", input={}, error=failure)
    folder.prompt(place).mkdir(parents=True)
    (folder.prompt(place) / "prediction.json").write_text(result.model_dump_json())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """p0 succeeded, p1 to p3 failed, p4 was canceled, p5 has no result; p3's record was moved aside."""
    folder = Folder(tmp_path, "night")
    models = ["owner/name", VERSION, "owner/name", "owner/name", "owner/name", "owner/name"]
    rows = [{"id": f"p{index}", "input": {}, "model": model} for index, model in enumerate(models)]
    folder.path.mkdir()
    folder.prompts.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
    write_record(folder, "p0", 0, "succeeded", None)
    write_record(folder, "p1", 1, "failed", Failure(kind="model_error", message="CUDA out of memory: 40 MB"))
    write_record(folder, "p2", 2, "failed", Failure(kind="content_policy", message="NSFW content detected"))
    write_record(folder, ".retried/p3.0", 3, "failed", Failure(kind="model_error", message="CUDA out of memory: 8 MB"))
    write_record(folder, "p4", 4, "canceled", Failure(kind="canceled", message="the batch was canceled"))
    return folder


FAILED = Bits.of([1, 2, 3, 4])


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), [0, 1, 2, 3, 4, 5]),
        (Selection(ids=frozenset({"p5", "p0"})), [0, 5]),
        (Selection(indexes=frozenset({2, 4})), [2, 4]),
        (Selection(indexes=frozenset()), []),
        (Selection(ids=frozenset({"p1", "p2"}), indexes=frozenset({2, 4})), [2]),
        (Selection(models=frozenset({"owner/other"})), [1]),
        (Selection(models=frozenset({VERSION})), [1]),
        (Selection(models=frozenset({"owner/nam"})), []),
        (Selection(kinds=frozenset({"model_error"})), [1, 3]),
        (Selection(kinds=frozenset({"model_error", "content_policy"}), models=frozenset({"owner/name"})), [2, 3]),
        (Selection(statuses=frozenset({"canceled"})), [4]),
        (Selection(statuses=frozenset({"failed"}), kinds=frozenset({"canceled"})), []),
        (Selection(message="out of MEMORY"), [1, 3]),
        (Selection(message="CUDA out of memory: N MB"), [1, 3]),
        (Selection(message="nsfw"), [2]),
    ],
)
def test_prompts_are_selected_by_all_that_is_given(folder: Folder, selection: Selection, expected: list[int]) -> None:
    found = selection.resolve(folder, FAILED)
    assert [index for index in range(8) if index in found] == expected


def test_ids_that_no_prompt_has_are_an_error(folder: Folder) -> None:
    with pytest.raises(InputError, match=r"batch 'night' has no prompt 'q0', 'q1', 'q2', 'q3', 'q4' and 2 more"):
        Selection(ids=frozenset({"p1", *(f"q{n}" for n in range(7))})).resolve(folder, FAILED)


@given(st.sets(st.integers(0, 2_000)))
def test_a_bitmap_has_the_bits_that_it_was_made_of(indexes: set[int]) -> None:
    bits = Bits.of(indexes)
    assert {index for index in range(2_100) if index in bits} == indexes
    assert len(bits) == len(indexes)
