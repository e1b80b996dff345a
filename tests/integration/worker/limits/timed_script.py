"""A script of the product whose time is passed in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis.commands.core import AsyncScript

from jobs.redis_client.resilience import Redis


class TimedScript(AsyncScript):
    """The script beside a module, with `clock` (in µs) as Redis's time and with other replacements in its text."""

    def __init__(
        self, redis: Redis, module: Any, clock: Callable[[], int], replaced: dict[str, str] | None = None
    ) -> None:
        text = Path(module.__file__).with_suffix(".lua").read_text(encoding="utf-8")
        for old, new in {"redis.call('TIME')": "{ARGV[#ARGV - 1], ARGV[#ARGV]}", **(replaced or {})}.items():
            assert text.count(old) == 1
            text = text.replace(old, new)
        super().__init__(redis, text)
        self._clock = clock

    async def __call__(self, keys: Any = None, args: Any = (), client: Any = None) -> Any:
        return await super().__call__(keys, [*args, *divmod(self._clock(), 1_000_000)], client)
