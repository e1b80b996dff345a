from __future__ import annotations

import pytest

from jobs.text import as_typed, size_text, with_make


@pytest.mark.parametrize(
    ("said", "through_make"),
    [
        (
            "No worker is up. This starts one: python -m arq worker.Settings",
            "No worker is up. This starts one: make worker",
        ),
        ("`python -m jobs status prompts` says why", "`make status BATCH=prompts` says why"),
        ("`python -m jobs status --all` lists them", "`.venv/bin/python -m jobs status --all` lists them"),
        ("`python -m jobs status` lists the batches", "`make status` lists the batches"),
        ("`python -m jobs enqueue FILE` creates one", "`make enqueue FILE=prompts.jsonl` creates one"),
        ("standard input needs a --name", "standard input needs a NAME="),
        ("give another --name, or --append to add", "give another NAME=, or APPEND=1 to add"),
        ("it has no model: give --model or BATCH_MODEL", "it has no model: give MODEL= or BATCH_MODEL"),
        ("once it is fixed: python -m jobs resume", "once it is fixed: .venv/bin/python -m jobs resume"),
        (
            "To continue with a higher one: python -m jobs retry p --max-predictions N",
            "To continue with a higher one: .venv/bin/python -m jobs retry p --max-predictions N",
        ),
        ("`python -m jobs delete p --force` drops them", "`.venv/bin/python -m jobs delete p --force` drops them"),
        ("`python -m worker orphans --cancel` ends them", "`.venv/bin/python -m worker orphans --cancel` ends them"),
        ("leave it out by --map image=; --sample N makes N", "leave it out by MAP=image=; SAMPLE=N makes N"),
        ("or --copy-inputs, and --keep-uploads", "or COPY_INPUTS=1, and KEEP_UPLOADS=1"),
        ("--sample-seed needs --sample", "SAMPLE_SEED= needs SAMPLE="),
        ("a prompt --names nothing -- and --name-like", "a prompt --names nothing -- and NAME=-like"),
    ],
)
def test_hints_are_what_one_types_to_make(said: str, through_make: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert with_make(said) == through_make
    assert as_typed(said) == said
    monkeypatch.setenv("STARTED_BY", "make")
    assert as_typed(said) == through_make


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1500, "1.5 kB"), (2_000_000, "2.0 MB"), (123_400_000, "123 MB"), (5e9, "5.0 GB")]
)
def test_sizes_read_alike_everywhere(size: float, text: str) -> None:
    assert size_text(size) == text
