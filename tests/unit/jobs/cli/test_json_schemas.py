"""docs/schemas describes what `--json` prints now: `python -m tests.json_outputs` writes it again."""

from __future__ import annotations

import pytest

from tests.json_outputs import OUTPUTS, SCHEMAS, schema_of


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_schema_is_up_to_date(name: str) -> None:
    assert (SCHEMAS / f"{name}.json").read_text(encoding="utf-8") == schema_of(name)


def test_there_is_no_other_schema() -> None:
    assert {path.stem for path in SCHEMAS.iterdir()} == set(OUTPUTS)
