"""The worker: creates predictions and saves their outputs. `arq worker.Settings` runs it.

Importing it has no effect: `Settings` reads the configuration when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.outputs.file_output import FileOutput

if TYPE_CHECKING:
    from worker.settings import Settings

__all__ = ["FileOutput", "Settings"]


def __getattr__(name: str) -> Any:
    if name == "Settings":
        from worker.settings import Settings  # noqa: PLC0415  # reads the environment and starts the embedded server

        return Settings
    raise AttributeError(name)
