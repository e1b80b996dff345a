"""What a shell completes: batches, prompts, models and schedules. Nothing here may fail, write or take long."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from jobs.config import Config

REDIS_SECONDS = 0.3
"""For how long Redis is asked; then the folders alone say which batches there are."""

MOST = 200
"""Candidates of one kind: nobody reads more."""

MOST_LOOKED_AT = 50_000
"""Entries of a folder that are looked at."""

MOST_BATCHES_READ = 20
"""Batches, the newest ones, whose models are offered."""


def _offered(find: Callable[[Config, Any], Iterable[str]]) -> Callable[[Any, str], list[str]]:
    """The candidates that begin as what is typed; none when anything is wrong: its message would be in the way."""

    def offer(ctx: Any, incomplete: str) -> list[str]:
        try:
            found = dict.fromkeys(find(Config.load(), ctx))
            return list(islice((one for one in found if one.startswith(incomplete)), MOST))
        except Exception:  # noqa: BLE001 - a shell shows whatever is raised, in the middle of a command line
            return []

    offer.__annotations__ = {"ctx": Any, "incomplete": str}
    return offer


def _batches(config: Config, _ctx: Any) -> Iterator[str]:
    yield from _batches_in_redis(config)
    yield from (path.name for path in _folders(config))


def _folders(config: Config) -> list[Path]:
    """The folders of batches, the newest first."""
    paths = [Path(entry.path) for entry in islice(_entries(config.output_dir), MOST_LOOKED_AT)]
    found = [path for path in paths if (path / "batch.json").exists()]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _entries(path: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        yield from (entry for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def _batches_in_redis(config: Config) -> list[str]:
    """Names of batches, the newest first; none when Redis does not answer at once, nor is the embedded one started."""
    from jobs.redis_client.client import connect, running_url
    from jobs.state.batches import Batches

    async def read(url: str) -> list[str]:
        redis = connect(url)
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                return await Batches(redis).names()
        finally:
            await redis.aclose()

    try:
        url = running_url(config)
        return asyncio.run(read(url)) if url else []
    except Exception:  # noqa: BLE001 - the folders are enough
        return []


def _prompts(config: Config, ctx: Any) -> Iterator[str]:
    """The prompts with a result of the batch that the command line names."""
    batch = ctx.params.get("batch")
    found = _entries(config.output_dir / batch) if batch else ()
    return iter(sorted(entry.name for entry in islice(found, MOST_LOOKED_AT)))


def _models(config: Config, _ctx: Any) -> Iterator[str]:
    import orjson

    for folder in _folders(config)[:MOST_BATCHES_READ]:
        try:
            yield from orjson.loads((folder / "models.json").read_bytes())["models"]
        except (OSError, ValueError, KeyError):
            continue


def _schedules(config: Config, _ctx: Any) -> Iterator[str]:
    from jobs.schedules.file import load

    return iter([one.name for one in load(config.schedules)])


batches, prompts, models, schedules = map(_offered, (_batches, _prompts, _models, _schedules))
