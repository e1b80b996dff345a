"""Bytes in bulk for benchmarks: equal but for their last 64, so that bytes and md5 cost next to nothing."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from random import Random

_TAIL = 64
_BLOCK = 1 << 16


def noise(seed: str, size: int) -> bytes:
    """`size` bytes that differ from seed to seed."""
    return _start(size)[0] + _tail(seed, size)


def noise_md5(seed: str, size: int) -> bytes:
    """The md5 of `noise(seed, size)`."""
    state = _start(size)[1].copy()
    state.update(_tail(seed, size))
    return state.digest()


@lru_cache(maxsize=4)
def _start(size: int) -> tuple[bytes, hashlib._Hash]:
    length = max(0, size - _TAIL)
    data = (Random(0).randbytes(_BLOCK) * (length // _BLOCK + 1))[:length]
    return data, hashlib.md5(data, usedforsecurity=False)


def _tail(seed: str, size: int) -> bytes:
    return Random(seed).randbytes(min(size, _TAIL))
