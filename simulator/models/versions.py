"""The versions of each model: the latest one is its newest, and the older ones still run."""

from __future__ import annotations

from collections import Counter

from simulator.answers import Problem
from simulator.models.model import Model
from simulator.models.registry import MODELS


class Versions:
    """How many versions were published of each model since the start."""

    def __init__(self) -> None:
        self._releases: Counter[str] = Counter()
        self._models = {model.version: model for model in MODELS.values() if model.published}

    def publish(self, full_name: str) -> str:
        """Publish another version of a model, which behaves as before; returns its id. Problem 422 for no model."""
        if (model := MODELS.get(full_name)) is None:
            raise Problem(422, f"no model {full_name!r}")
        self._releases[full_name] += 1
        self._models[self.latest(model)] = model
        return self.latest(model)

    def latest(self, model: Model) -> str:
        """The id of the newest version."""
        return model.release(self._releases[model.full_name])

    def of(self, model: Model) -> list[str]:
        """The ids of all versions, newest first; none of a model that was never published."""
        if not model.published:
            return []
        return [model.release(number) for number in range(self._releases[model.full_name], -1, -1)]

    def model(self, version: str) -> Model | None:
        """The model that a version is of."""
        return self._models.get(version)
