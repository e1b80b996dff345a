"""The models of a prompts file: what each is, looked up once, and kept with its batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from jobs.account.rate_limit import RateLimit
from jobs.batch_folder.folder import Folder
from jobs.catalog.cache import ModelCache
from jobs.catalog.lookup import Get, look_up
from jobs.catalog.model import Missing, Model
from jobs.catalog.models_file import earlier_names, read_cards, read_models
from jobs.catalog.paced_reads import PacedReads
from jobs.config import Config
from jobs.errors import ConfigError, ModelsUnknown, ReplicateError
from jobs.prices.price_list import PriceList
from jobs.redis_client.resilience import Redis

AT_ONCE = 8
"""Models that are looked up at the same time."""


class Catalog:
    """What is known of the models of one batch; `found` grows with the names that are asked for."""

    def __init__(self, config: Config, folder: Folder | None, redis: Redis | None) -> None:
        self.found: dict[str, Model | Missing] = {}
        self._config, self.folder, self._redis = config, folder, redis
        self._kept = read_models(folder) if folder else {}
        self._cache = ModelCache(redis, config.api_host) if redis else None
        self._stack = AsyncExitStack()
        self._get: Get | None = None

    @classmethod
    @asynccontextmanager
    async def opened(cls, config: Config, folder: Folder | None, redis: Redis | None) -> AsyncIterator[Catalog]:
        """A catalog that can ask the API until the block ends; StorageError when models.json is damaged."""
        catalog = cls(config, folder, redis)
        async with catalog._stack:
            yield catalog

    @property
    def kept(self) -> Mapping[str, Model]:
        """What the batch's folder knows of its models."""
        return self._kept

    @property
    def models(self) -> dict[str, Model]:
        """All models of the batch: those that were asked for, and those that its folder knows."""
        return self._kept | {name: model for name, model in self.found.items() if isinstance(model, Model)}

    @property
    def pins(self) -> dict[str, str]:
        """The version of each model that runs by its version and is named without one."""
        return {name: str(model.version) for name, model in self.models.items() if model.pinned != name}

    def prices(self) -> PriceList:
        """What models cost: the cards that the batch keeps, else those that hold now; PriceError, StorageError."""
        kept = read_cards(self.folder) if self.folder else {}
        return replace(PriceList.load(self._config), kept=kept, properties=self._properties)

    def _properties(self, name: str) -> Mapping[str, Any]:
        """The inputs of a model as the batch names it."""
        for each in (name, name.partition(":")[0]):
            for models in (self.found, self._kept):
                if isinstance(model := models.get(each), Model) and model.input:
                    return model.input.properties
        return {}

    async def find(self, names: Iterable[str]) -> None:
        """Learn what these models are; ModelsUnknown when nobody can be asked."""
        wanted = [name for name in names if name not in self.found]
        self.found |= {name: model for name in wanted if (model := self._fixed(name))}
        if self._cache:
            self.found |= await self._cache.read([name for name in wanted if name not in self.found])
        turns = asyncio.Semaphore(AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                for name in wanted:
                    if name not in self.found:
                        group.create_task(self._look_up(name, turns))
        except* ModelsUnknown as errors:
            raise _first(errors) from None

    def _fixed(self, name: str) -> Model | None:
        """The model that the batch keeps at one version, which never changes: by its name, or by that version."""
        for model in self._kept.values():
            if ":" in model.pinned and name in (model.name, model.pinned):
                return replace(model, name=name)
        return None

    async def _look_up(self, name: str, turns: asyncio.Semaphore) -> None:
        async with turns:
            try:
                model = await look_up(self._reads(), name)
            except (ReplicateError, ConfigError) as error:
                if name not in self._kept:
                    raise ModelsUnknown(str(error)) from error
                model = self._kept[name]
        if isinstance(model, Missing):
            model = await asyncio.to_thread(self._with_near_name, model)
        elif self._cache:
            await self._cache.keep([model])
        self.found[name] = model

    def _reads(self) -> Get:
        if self._get is None:
            if self._config.replicate_api_token is None:
                raise ConfigError("REPLICATE_API_TOKEN is not set")
            from jobs.replicate_api.client import api_client  # noqa: PLC0415 - only who asks the API needs httpx

            config = self._config
            client = api_client(config)
            self._stack.push_async_callback(client.aclose)
            limit = RateLimit(self._redis, config.api_host, "read", config.reads_per_minute) if self._redis else None
            self._get = PacedReads(client, limit).get
        return self._get

    def _with_near_name(self, missing: Missing) -> Missing:
        """Suggest a name of the account's earlier batches, or of this one."""
        if missing.instead:
            return missing
        known = {*earlier_names(self._config.output_dir), *self.models} - {missing.name}
        names = {name.casefold(): name for name in sorted(known)}
        near = get_close_matches(missing.name.casefold(), names, n=1, cutoff=0.75)
        return Missing(missing.name, missing.reason, names[near[0]] if near else None)


def _first(errors: ExceptionGroup[ModelsUnknown]) -> ModelsUnknown:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first
