"""A worker that ends itself at a point: `python -m tests.chaos.trapped_worker [--burst]`, with an Order in `CHAOS`.

It wraps functions of the product from outside and then runs arq's own command line.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import os
import pkgutil
import re
import resource
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from worker.timing import Timing

PACKAGES = ("jobs", "worker")
UNTOUCHED = ("__main__", "worker.settings", "jobs.cli.app")


def main() -> None:
    order = json.loads(os.environ["CHAOS"])
    signal.signal(signal.SIGUSR1, lambda *_: limit_files(0))
    signal.signal(signal.SIGUSR2, lambda *_: limit_files(resource.RLIM_INFINITY))
    modules = list(loaded())
    if order["target"]:
        owner, attribute = found(order["target"])
        replace(modules, owner, attribute, Trap(order).around(getattr(owner, attribute)))
    settings = importlib.import_module("worker.settings").Settings
    settings.ctx["timing"] = Timing(**order["timing"])
    sys.argv = ["arq", "worker.Settings", *sys.argv[1:]]
    runpy.run_module("arq", run_name="__main__", alter_sys=True)


def limit_files(size: int) -> None:
    """No file may grow beyond that: what a full disk does, where none can be had."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def loaded() -> Iterator[ModuleType]:
    for package in map(importlib.import_module, PACKAGES):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(UNTOUCHED):
                yield importlib.import_module(module.name)


def found(target: str) -> tuple[Any, str]:
    """`worker.outputs.staging:Staging.commit` as its owner and the name in it."""
    module, _, path = target.partition(":")
    *outer, name = path.split(".")
    return functools.reduce(getattr, outer, importlib.import_module(module)), name


def replace(modules: list[ModuleType], owner: Any, name: str, value: Any) -> None:
    """Set it in its owner and wherever else it was imported by that name."""
    old = getattr(owner, name)
    for module in [*modules, owner]:
        if getattr(module, name, None) is old:
            setattr(module, name, value)


class Trap:
    """Sends a signal to its own process before, in, or after the n-th call of the function it wraps."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.when, self.hit, self.having = order["when"], order["hit"], order["having"]
        self.signal = signal.Signals[order["signal"]]
        self.calls = 0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def plain(*args: Any, **kwargs: Any) -> Any:
            mine = self.counts(args, kwargs)
            self.spring(mine, "before")
            result = function(*args, **kwargs)
            self.spring(mine, "after")
            return result

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            mine = self.counts(args, kwargs)
            self.spring(mine, "before")
            result = await function(*args, **kwargs)
            self.spring(mine, "after")
            return result

        return coroutine if inspect.iscoroutinefunction(function) else plain

    def counts(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether this call is of the kind that was ordered: by its keywords and its first two arguments."""
        shown = f"{kwargs} {' '.join(map(str, args[:2]))}" if self.having else ""
        return bool(re.search(self.having, shown))

    def spring(self, mine: bool, when: str) -> None:  # noqa: FBT001
        if not mine or when != self.when:
            return
        self.calls += 1
        if self.calls == self.hit:
            os.kill(os.getpid(), self.signal)


if __name__ == "__main__":
    main()
