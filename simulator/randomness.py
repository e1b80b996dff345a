"""Seeded randomness: one sequence for each purpose, so that they do not affect each other."""

from __future__ import annotations

from random import Random


class SeededRandom:
    """`random["limits"].random()`; without a seed every run differs."""

    def __init__(self, seed: int | None) -> None:
        self._seed = Random().getrandbits(64) if seed is None else seed
        self._sequences: dict[str, Random] = {}

    def __getitem__(self, purpose: str) -> Random:
        if purpose not in self._sequences:
            self._sequences[purpose] = Random(f"{self._seed}:{purpose}")
        return self._sequences[purpose]
