"""The limits of CONTRIBUTING.md: on files, functions and parameters, and on who may use what."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import httpx
import pytest

from tests.imports import loaded_by

ROOT = Path(__file__).parents[2]
PACKAGES = [
    name for name in ("jobs", "worker", "simulator", "replicate_batch", "demo", "benchmarks") if (ROOT / name).is_dir()
]
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LUA = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.lua"))

MAX_FILE, MAX_FUNCTION, MAX_PARAMETERS, MAX_FOLDER = 400, 30, 6, 16
EMPTY_WORDS = {"util", "utils", "helper", "helpers", "common", "manager", "misc"}
HTTPX_ERRORS = {
    name
    for name, value in vars(httpx).items()
    if inspect.isclass(value) and issubclass(value, Exception) and name != "InvalidURL"
}
ENVIRONMENT = {"os.environ", "os.environb", "os.getenv", "os.putenv"}
REDIS_COMMANDS_IN = {
    "benchmarks/cases/durability.py",
    "jobs/account/account.py",
    "jobs/account/action_log.py",
    "jobs/account/live_workers.py",
    "jobs/events/log.py",
    "jobs/state/batches.py",
    "jobs/queue/dead_letters.py",
    "jobs/state/ledger.py",
    "jobs/queue/shard_queue.py",
    "jobs/state/release.py",
    "jobs/redis_client/auto_pipeline.py",
    "jobs/redis_client/requirements.py",
    "jobs/schedules/state.py",
    "jobs/state/snapshot.py",
    "jobs/state/pending.py",
    "jobs/state/uploads.py",
    "jobs/state/waits.py",
    "jobs/state/claims.py",
    "jobs/state/outbox.py",
    "worker/limits/circuit_breaker.py",
    "worker/doctor/status.py",
    "worker/doctor/redis_server.py",
    "jobs/redis_client/client.py",
    "worker/leases.py",
    "jobs/catalog/cache.py",
    "jobs/account/rate_limit.py",
    "worker/polling/leader.py",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Check = Callable[[ast.Module], Iterator[str]]


def functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def lines_without_docstring(function: Function) -> int:
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def long_functions(tree: ast.Module) -> Iterator[str]:
    for function in functions(tree):
        if (lines := lines_without_docstring(function)) > MAX_FUNCTION:
            yield f"{function.name} has {lines} lines"


def wide_functions(tree: ast.Module) -> Iterator[str]:
    for function in functions(tree):
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        count = sum(argument.arg not in ("self", "cls") for argument in arguments)
        # A typer command's parameters are its options.
        command = any("command" in ast.unparse(decorator) for decorator in function.decorator_list)
        if count > MAX_PARAMETERS and not command:
            yield f"{function.name} has {count} parameters"


def empty_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | Function):
            words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+", node.name)}
            if words & EMPTY_WORDS and not node.name.endswith("contextmanager"):
                yield node.name


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def uses_httpx_errors(tree: ast.Module) -> Iterator[str]:
    yield from (name for name in imports(tree) if name.removeprefix("httpx.") in HTTPX_ERRORS)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "httpx" and node.attr in HTTPX_ERRORS:
            yield ast.unparse(node)


def reads_environment(tree: ast.Module) -> Iterator[str]:
    """Yield each use of the environment but the one that passes all of it on: `{**os.environ, …}`."""
    passed_on = {
        id(value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if key is None
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in passed_on and ast.unparse(node) in ENVIRONMENT:
            yield f"line {node.lineno}: {ast.unparse(node)}"
    yield from (name for name in imports(tree) if name in ENVIRONMENT)


def redis_commands(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr != "aclose":
            owner = ast.unparse(node.func.value).rpartition(".")[2]
            if owner in ("redis", "_redis", "pipe", "pipeline"):
                yield f"line {node.lineno}: {ast.unparse(node.func)}"


def keys_without_type(source: str) -> Iterator[str]:
    head = "\n".join(line for line in source.partition("\n\n")[0].splitlines() if line.startswith("--"))
    for number in sorted(set(re.findall(r"KEYS\[(\d+)\]", source))):
        if not re.search(rf"KEYS\[{number}\]\s+(STRING|HASH|ZSET|SET|LIST|BITMAP|STREAM)\b", head):
            yield f"KEYS[{number}]"


def complaints(check: Check, allowed: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment] # read only
    return [
        f"{name}: {complaint}"
        for path in MODULES
        if (name := path.relative_to(ROOT).as_posix()) not in allowed
        for complaint in check(tree_of(path))
    ]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_a_file_is_on_one_noun_and_short() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines()) for path in MODULES + LUA}
    assert {name: length for name, length in lengths.items() if length > MAX_FILE} == {}


def test_a_folder_can_be_taken_in_at_a_glance() -> None:
    sizes = Counter(path.parent.relative_to(ROOT).as_posix() for path in MODULES + LUA)
    assert {folder: size for folder, size in sizes.items() if size > MAX_FOLDER} == {}


def test_a_function_is_short() -> None:
    assert complaints(long_functions) == []


def test_a_function_takes_few_parameters() -> None:
    assert complaints(wide_functions) == []


def test_a_name_says_something() -> None:
    stems = {path.relative_to(ROOT).as_posix(): set(path.stem.split("_")) for path in MODULES}
    assert [name for name, words in stems.items() if words & EMPTY_WORDS] == []
    assert complaints(empty_names) == []


def test_only_http_and_its_transports_know_the_errors_of_httpx() -> None:
    assert (
        complaints(
            uses_httpx_errors,
            {"jobs/replicate_api/client.py", "jobs/replicate_api/transport.py", "jobs/replicate_api/proxies.py"},
        )
        == []
    )


def test_only_config_reads_the_environment() -> None:
    # jobs/config.py also writes into it what a library reads there, and .env has
    assert complaints(reads_environment, {"jobs/config.py", "jobs/network.py"}) == []


def test_redis_commands_have_few_homes() -> None:
    assert complaints(redis_commands, REDIS_COMMANDS_IN) == []


@pytest.mark.parametrize("path", LUA, ids=lambda path: path.name)
def test_a_script_says_which_keys_it_touches(path: Path) -> None:
    assert list(keys_without_type(path.read_text("utf-8"))) == []


def test_a_producer_loads_nothing_of_the_worker() -> None:
    assert not loaded_by("import jobs.cli.app, jobs.cli.commands.enqueue") & {
        "httpx",
        "aiofiles",
        "worker",
        "simulator",
    }


def test_the_worker_is_imported_without_effect() -> None:
    """`from worker import FileOutput` must not read the configuration, which may be wrong."""
    program = "from worker import FileOutput; import sys; print('jobs.redis_client.embedded' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False,
        env={"BATCH_MAX_IN_FLIGHT": "none", "REDIS_URL": "nonsense"},
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


LONG = "def long():\n    '''Say.\n\n    More.'''\n" + "    pass\n" * 30
BAD: list[tuple[Check, str]] = [
    (long_functions, LONG),
    (wide_functions, "def wide(a, b, c, d, e, f, *, g): ..."),
    (empty_names, "class ShardManager: ..."),
    (empty_names, "def make_helper(): ..."),
    (uses_httpx_errors, "from httpx import ReadTimeout"),
    (uses_httpx_errors, "try: ...\nexcept httpx.HTTPError: ..."),
    (reads_environment, "token = os.environ['TOKEN']"),
    (reads_environment, "from os import getenv"),
    (redis_commands, "async def f(redis): await redis.get('x')"),
    (redis_commands, "async def f(self): await self._redis.get('x')"),
]
GOOD: list[tuple[Check, str]] = [
    (long_functions, LONG.replace("    pass\n", "", 1)),
    (wide_functions, "def wide(self, a, b, c, d, e, f): ..."),
    (empty_names, "class Limiter: ..."),
    (uses_httpx_errors, "client: httpx.AsyncClient"),
    (reads_environment, "run(command, env={**os.environ, 'A': 'b'})"),
    (redis_commands, "async def f(self): await self._redis.aclose()"),
]


@pytest.mark.parametrize(("check", "source"), BAD)
def test_each_check_can_fail(check: Check, source: str) -> None:
    assert len(list(check(ast.parse(source)))) == 1


@pytest.mark.parametrize(("check", "source"), GOOD)
def test_each_check_lets_good_code_pass(check: Check, source: str) -> None:
    assert list(check(ast.parse(source))) == []


def test_the_check_of_scripts_can_fail() -> None:
    head = "-- Count.\n-- KEYS[1] HASH the batch\n"
    assert list(keys_without_type(f"{head}\nreturn redis.call('HGET', KEYS[1], KEYS[2])")) == ["KEYS[2]"]
    assert list(keys_without_type(f"{head}\nreturn redis.call('HLEN', KEYS[1])")) == []
