"""Children of a forked command: it starts them with `subprocess`, as Python, and gets children of its own.

To be one, a child has to be forked by the command's process; and by then that runs threads and an event loop, which no
fork survives. So it is forked before the command begins, and waits to be told what to run.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any

STARTED_BY = {"run": 1, "demo": 2}
"""How many of our programs a command starts, by a word of it."""

LARGEST = 1 << 20
Order = dict[str, Any]


class Spare:
    """A child that waits for its order; in itself, `order` is what it got."""

    def __init__(self) -> None:
        self._socket, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        with its_end:
            self.order = None if self.pid else self._wait_for_order(its_end)

    def start(self, order: Order, streams: Sequence[int]) -> bool:
        """False when it is gone, as after a Ctrl-C that reached the whole group."""
        try:
            socket.send_fds(self._socket, [json.dumps(order).encode()], streams)
            return bool(self._socket.recv(32))
        except OSError:
            return False

    def _wait_for_order(self, orders: socket.socket) -> Order:
        self._socket.close()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        data, descriptors, *_ = socket.recv_fds(orders, LARGEST, 3)
        if not data:
            os._exit(0)
        order: Order = json.loads(data)
        if (group := order.pop("process_group")) >= 0:
            os.setpgid(0, group)
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        orders.send(b"ready")
        orders.detach()
        os.closerange(len(descriptors), os.sysconf("SC_OPEN_MAX"))
        return order


def with_spares(order: Order, packages: Container[str]) -> Order:
    """Fork a spare for each program of these packages that the command will start.

    Returns the order; in a spare, which comes back later, the spare's own.
    """
    spares: list[Spare] = []
    for _ in range(max(STARTED_BY.get(word, 0) for word in order["command"])):
        spare = Spare()
        if spare.order:
            return with_spares(spare.order, packages)
        spares.append(spare)
    if spares:
        start = subprocess._fork_exec  # type: ignore[attr-defined]  # noqa: SLF001 - all that starts processes uses it
        subprocess._fork_exec = instead_of(start, spares, packages)  # type: ignore[attr-defined]  # noqa: SLF001
    return order


def instead_of(start: Callable[..., int], spares: list[Spare], packages: Container[str]) -> Callable[..., int]:
    """What `subprocess` calls to start a process, and which now takes a spare where it can."""

    def fork_exec(words: Sequence[str | bytes], *rest: Any) -> int:
        _, _, _, cwd, env, read, _, _, written, _, errors, *_ = rest
        command = [os.fsdecode(word) for word in words]
        if spares and command[:2] == [sys.executable, "-m"] and command[2] in packages:
            order = {
                "command": command[1:],
                "env": dict(os.environ) if env is None else settings_of(env),
                "cwd": str(Path.cwd()) if cwd is None else os.fsdecode(cwd),
                "process_group": rest[15],
            }
            spare = spares.pop()
            streams = [given if given >= 0 else own for own, given in enumerate((read, written, errors))]
            if spare.start(order, streams):
                return spare.pid
        return start(words, *rest)

    return fork_exec


def settings_of(env: Sequence[bytes]) -> dict[str, str]:
    """The environment as a mapping."""
    listed = (os.fsdecode(setting).partition("=") for setting in env)
    return {name: value for name, _, value in listed}
