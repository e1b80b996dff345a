"""What every peer gets: the prompts, the API, the folder, and the most in flight."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = "bench/model"
POLL_INTERVAL = 0.5
"""Seconds; the official client's own."""


@dataclass(frozen=True, slots=True)
class Work:
    """The flags of a peer."""

    prompts: list[dict[str, Any]]
    api: str
    folder: Path
    in_flight: int

    @classmethod
    def from_flags(cls) -> Work:
        """Read the command line: the prompts file, `--api`, `--folder`, `--in-flight`."""
        flags = argparse.ArgumentParser()
        flags.add_argument("prompts", type=Path)
        flags.add_argument("--api", required=True)
        flags.add_argument("--folder", type=Path, required=True)
        flags.add_argument("--in-flight", type=int, default=100)
        given = flags.parse_args()
        prompts = [json.loads(line) for line in given.prompts.read_text().splitlines()]
        return cls(prompts, given.api, given.folder, given.in_flight)

    def file(self, prompt: int, number: int) -> Path:
        """Where an output file of a prompt goes."""
        folder = self.folder / f"{prompt:06}"
        folder.mkdir(exist_ok=True)
        return folder / f"output_{number}.png"

    async def each(self, one: Callable[[int, dict[str, Any]], Awaitable[None]]) -> None:
        """Call `one` with each prompt's number and input, at most `in_flight` at once."""
        slots = asyncio.Semaphore(self.in_flight)

        async def with_slot(number: int, prompt: dict[str, Any]) -> None:
            async with slots:
                await one(number, prompt["input"])

        await asyncio.gather(*(with_slot(number, prompt) for number, prompt in enumerate(self.prompts)))
