"""Commands as a client of ours packs them, beside redis-py's own packing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import Connection
from redis.exceptions import DataError

from jobs.redis_client.resilience import PatientPool, RetryWindow

OURS = PatientPool(retry=RetryWindow(1.0)).make_connection()
THEIRS = Connection()

values = st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.binary(), st.integers(), st.floats())


@given(st.sampled_from(["GET", "CONFIG GET", b"SCRIPT LOAD"]), st.lists(values))
def test_commands_are_packed_as_redis_py_packs_them(name: str | bytes, arguments: list[Any]) -> None:
    assert b"".join(OURS.pack_command(name, *arguments)) == b"".join(THEIRS.pack_command(name, *arguments))


def test_large_values_are_packed_too() -> None:
    value = b"x" * 1_000_000
    assert b"".join(OURS.pack_commands([("SET", "key", value)] * 2)).count(value) == 2


@pytest.mark.parametrize("value", [True, None, [1], {"a": 1}])
def test_what_redis_cannot_store_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match="SET"):
        OURS.pack_command("SET", "key", value)
