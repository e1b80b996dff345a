from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis


@pytest.fixture
def blocking_redis(_redis_socket: Path) -> Iterator[Redis]:
    """A client of the tests' Redis that blocks."""
    with Redis(unix_socket_path=str(_redis_socket)) as client:
        yield client
