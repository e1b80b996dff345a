"""The circuit breaker of a model."""

from __future__ import annotations


class ModelPaused(Exception):
    """The breaker paused the model meanwhile."""
