"""Whatever happened to records and segments, the result files are those that the records alone give."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jobs.batch_folder.folder import RECORD, RETRIED, SEGMENTS, Folder
from jobs.batch_folder.gallery import write_gallery
from jobs.batch_folder.manifest import Manifest, write_manifest
from jobs.batch_folder.prompts_copy import kept_line, read_copy
from jobs.batch_folder.results import count_results, records, write_results, writing_results
from jobs.batch_folder.reviews import Review, add_review, last_reviews
from jobs.batch_folder.rows import segment
from jobs.batch_folder.rows.merge import merge_rows
from jobs.batch_folder.rows.result_line import result_line, reviewed_line
from jobs.batch_folder.rows.segment import keep_shard, read_segment, segment_path
from jobs.wire import SHARD_SIZE, Failure, Prompt, Result, SavedFile, Shard, canonical_json
from worker.prompt.save import encode_record

BATCH_ID = "b1"
ODD = [1e-5, 1e16, 10**30, "\ud800", "\u2028 <b>&", {"a": [None, True]}]
"""Values that are written in more than one way, or not at all, in JSON, UTF-8 or HTML."""


class Batch:
    """A batch on disk, whose prompts are settled, retried and replaced by hand."""

    def __init__(self, root: Path) -> None:
        self.folder = Folder(root, "night")
        self.folder.path.mkdir()
        write_manifest(self.folder, Manifest("night", BATCH_ID, "api.replicate.com", 0.0), fsync=False)
        self.texts: list[bytes] = []
        self.generations: list[int] = []
        self.tries = 0

    def add(self, count: int, odd: Any = 1) -> None:
        for _ in range(count):
            values = {"prompt": f"cat {len(self.texts)}", "odd": odd}
            row = {"id": f"p{len(self.texts)}", "input": values, "model": "owner/model"}
            self.texts.append(canonical_json(row).encode("utf-8", "surrogatepass"))
            self.generations.append(0)
        self.write_copy()

    def write_copy(self) -> None:
        pairs = zip(self.texts, self.generations, strict=True)
        self.folder.prompts.write_bytes(b"".join(kept_line(text, generation) for text, generation in pairs))

    def prompts(self) -> list[Prompt]:
        return list(read_copy(self.folder))

    def settle(self, index: int, kind: int = 0, odd: Any = 1) -> None:
        """Commit a record as a worker does, unless there is one."""
        prompt, self.tries = self.prompts()[index], self.tries + 1
        staging = self.folder.saving(prompt.id, f"{self.tries}")
        staging.mkdir(parents=True)
        facts: dict[str, Any] = {"status": "succeeded", "output": odd, "saved_at": f"2026-11-28T00:00:{self.tries:02}Z"}
        if kind == 1:
            facts = {"status": "failed", "error": Failure(kind="model_error", message=f"CUDA <{self.tries}> {odd}")}
        elif kind == 2:
            (staging / "output.txt").write_text(f"text {self.tries}")
            file = SavedFile(path=f"{prompt.id}/output.txt", url="https://x/y", bytes=6, sha256="0")
            facts |= {"files": (file,), "output": [file.path], "cost": 0.1 * self.tries}
        result = Result(id=prompt.id, index=index, model=prompt.model, input=prompt.input, attempts=self.tries, **facts)
        (staging / RECORD).write_bytes(encode_record(result, {"id": "x"}))
        with suppress(OSError):
            staging.rename(self.folder.prompt(prompt.id))
        shutil.rmtree(self.folder.path / ".saving")

    def move_aside(self, index: int) -> None:
        """The first half of a retry, which may be cut there."""
        prompt, self.tries = self.prompts()[index], self.tries + 1
        (self.folder.path / RETRIED).mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            self.folder.prompt(prompt.id).rename(self.folder.path / RETRIED / f"{prompt.id}.{self.tries}")

    def keep(self, number: int) -> None:
        prompts = tuple(self.prompts()[number * SHARD_SIZE : (number + 1) * SHARD_SIZE])
        keep_shard(self.folder, Shard("night", BATCH_ID, number, 0, prompts))

    def close(self) -> None:
        """What the end of the batch writes."""
        with writing_results(self.folder, merge_rows(self.folder, with_html=True), fsync=False) as rows:
            write_gallery(self.folder, rows, fsync=False)

    def written(self) -> dict[str, bytes]:
        paths = [self.folder.results, self.folder.errors, *self.folder.path.glob("index*.html")]
        return {path.name: path.read_bytes() for path in paths if path.exists()}

    def segments(self) -> list[Path]:
        return sorted((self.folder.path / SEGMENTS).glob("*"))

    def read_again(self) -> dict[str, bytes]:
        """What the records give, without a segment and without a page that is there."""
        with tempfile.TemporaryDirectory(dir=self.folder.output_dir) as root:
            copy = Batch.__new__(Batch)
            copy.folder = Folder(Path(root), "night")
            names = shutil.ignore_patterns(SEGMENTS, "index*.html")
            shutil.copytree(self.folder.path, copy.folder.path, ignore=names)
            copy.close()
            return copy.written()

    def lines(self) -> bytes:
        """results.jsonl by its definition."""
        reviews = last_reviews(self.folder)
        found = [(result_line(result), reviews.get(result.id)) for _, result in records(self.folder) if result]
        return b"".join(
            (reviewed_line(line, review) if review else line).encode(errors="replace") + b"\n" for line, review in found
        )


class Histories(RuleBasedStateMachine):
    """Prompts settle and are retried, workers die between any two writes, and segments are lost, cut and mixed up."""

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.TemporaryDirectory()
        self.batch = Batch(Path(self.root.name))
        self.batch.add(SHARD_SIZE + 3)
        for index in range(0, SHARD_SIZE, 7):
            self.batch.settle(index, index % 3)
        self.batch.keep(0)

    def teardown(self) -> None:
        self.root.cleanup()

    places = st.sampled_from([0, 1, 7, 50, SHARD_SIZE - 1, SHARD_SIZE, SHARD_SIZE + 2])

    @rule(index=places, kind=st.integers(0, 2), odd=st.sampled_from(ODD))
    def settle(self, index: int, kind: int, odd: Any) -> None:
        self.batch.settle(index, kind, odd)

    @rule(number=st.integers(0, 1))
    def end_shard(self, number: int) -> None:
        self.batch.keep(number)

    @rule(number=st.integers(0, 1), cut=st.sampled_from(["move_segment", "write_segment"]))
    def die_in_a_segment(self, number: int, cut: str) -> None:
        with dying(cut), suppress(Killed):
            self.batch.keep(number)

    @rule(index=places)
    def retry_cut_short(self, index: int) -> None:
        self.batch.move_aside(index)

    @rule(index=places, kind=st.integers(0, 2))
    def retry(self, index: int, kind: int) -> None:
        self.batch.move_aside(index)
        self.batch.generations[index] += 1
        self.batch.write_copy()
        self.batch.settle(index, kind)

    @rule(index=places, odd=st.sampled_from(ODD))
    def replace(self, index: int, odd: Any) -> None:
        self.batch.move_aside(index)
        row = {"id": f"p{index}", "input": {"prompt": "corrected", "odd": odd}, "model": "owner/model"}
        self.batch.texts[index] = canonical_json(row).encode("utf-8", "surrogatepass")
        self.batch.write_copy()

    @rule(index=places, rating=st.integers(0, 5))
    def review(self, index: int, rating: int) -> None:
        add_review(self.batch.folder, Review(id=f"p{index}", rating=rating), fsync=False)

    @rule(odd=st.sampled_from(ODD))
    def enqueue_more(self, odd: Any) -> None:
        self.batch.add(1, odd)

    @rule(data=st.data())
    def lose_or_spoil_a_segment(self, data: st.DataObject) -> None:
        for path in self.batch.segments():
            content = path.read_bytes()
            match data.draw(st.sampled_from(["keep", "delete", "cut", "spoil", "swap"])):
                case "delete":
                    path.unlink()
                case "cut":
                    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
                case "spoil" if content:
                    place = data.draw(st.integers(0, len(content) - 1))
                    path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
                case "swap":
                    path.rename(self.batch.folder.path / segment_path(1))

    @rule()
    def gallery(self) -> None:
        write_gallery(self.batch.folder, fsync=False)

    @rule()
    def results(self) -> None:
        totals = write_results(self.batch.folder, fsync=False)
        assert self.batch.folder.results.read_bytes() == self.batch.lines()
        assert totals == count_results(self.batch.folder)

    @rule()
    def close(self) -> None:
        self.batch.close()
        assert self.batch.written() == self.batch.read_again()
        assert self.batch.folder.results.read_bytes() == self.batch.lines()

    @invariant()
    def nothing_but_segments_is_hidden(self) -> None:
        names = {path.name for path in self.batch.folder.path.glob(".*")}
        assert names <= {SEGMENTS, RETRIED}


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=15, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def dying(name: str) -> Iterator[None]:
    """Let the process end in a function, for all that its files show."""

    def end(*_: Any) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, name, end)
        yield


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    batch = Batch(tmp_path)
    batch.add(SHARD_SIZE + 1)
    for index in range(SHARD_SIZE + 1):
        batch.settle(index, index % 3)
    return batch


def reads(patch: pytest.MonkeyPatch) -> list[str]:
    """The ids of prompts whose record is read from now on."""
    seen: list[str] = []
    read = Folder.read_record

    def noting(folder: Folder, prompt_id: str) -> Result | None:
        seen.append(prompt_id)
        return read(folder, prompt_id)

    patch.setattr(Folder, "read_record", noting)
    return seen


def test_only_what_has_changed_is_read_again(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    batch.keep(0)
    seen = reads(monkeypatch)
    write_results(batch.folder, fsync=False)
    assert seen == ["p100"]
    batch.close()
    seen.clear()
    batch.move_aside(3)
    batch.settle(3, 1)
    seen.clear()
    batch.close()
    assert seen == ["p3"]
    seen.clear()
    batch.keep(0)
    assert seen == []


def test_a_record_that_is_written_in_place_is_seen_by_results(batch: Batch) -> None:
    batch.keep(0)
    record = batch.folder.prompt("p0") / RECORD
    record.write_text(record.read_text().replace('"attempts": 1', '"attempts": 7'))
    write_results(batch.folder, fsync=False)
    assert b'"attempts":7' in batch.folder.results.read_bytes()


def test_a_text_that_is_written_in_place_is_seen_by_the_gallery(batch: Batch) -> None:
    batch.keep(0)
    (batch.folder.prompt("p2") / "output.txt").write_text("corrected")
    assert "corrected" in write_gallery(batch.folder, fsync=False).read_text()


def test_a_damaged_record_is_kept_in_no_segment(batch: Batch) -> None:
    record = batch.folder.prompt("p0") / RECORD
    whole = record.read_bytes()
    record.write_bytes(b"{")
    batch.keep(0)
    record.write_bytes(whole)
    batch.close()
    assert batch.written() == batch.read_again()


def test_a_segment_of_another_batch_shard_or_version_is_none(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    batch.keep(0)
    descriptor = os.open(batch.folder.path, os.O_RDONLY)
    try:
        assert len(read_segment(descriptor, BATCH_ID, 0)) == SHARD_SIZE
        assert read_segment(descriptor, "b2", 0) == {}
        batch.segments()[0].rename(batch.folder.path / segment_path(7))
        assert read_segment(descriptor, BATCH_ID, 7) == read_segment(descriptor, BATCH_ID, 0) == {}
        batch.keep(0)
        monkeypatch.setattr(segment, "_version", lambda: "another")
        assert read_segment(descriptor, BATCH_ID, 0) == {}
    finally:
        os.close(descriptor)


def test_pages_that_have_not_changed_are_left_alone(batch: Batch) -> None:
    batch.add(2 * SHARD_SIZE)
    batch.close()
    pages = [batch.folder.path / name for name in ("index.html", "index-2.html")]
    before = [page.stat().st_ino for page in pages]
    batch.settle(SHARD_SIZE + 1)
    batch.close()
    first, second = (page.stat().st_ino for page in pages)
    assert first != before[0]
    assert second == before[1]
