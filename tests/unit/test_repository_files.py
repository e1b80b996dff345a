"""The files around the code say what the code does: locks, containers, CI, settings, commands, versions."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import SecretStr
from typer.main import get_command

from jobs import errors as errors_of_jobs
from jobs.cli.app import JobsCommands, app
from jobs.config import Config
from jobs.errors import BatchError
from jobs.redis_client.requirements import ACL_LINE
from jobs.terminal import CLOSED_PIPE, STOPPED
from jobs.wire import ErrorKind

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.txt", "requirements-dev.txt", "requirements-bench.txt")
TEXTS = (".md", ".py", ".lua", ".toml", ".yaml", ".yml", ".txt", ".jsonl", ".html", ".example", ".j2")
NO_MENTION = (
    r"(?<![\w.:}/-])/(?:home|root|Users|work|opt)/\w",  # somebody's machine
    r"\.\./\w+/\w+\.(?:md|json)\b",  # a page outside the repository
    r"py(?:pi|thonhosted)\.org",  # package indexes are each installer's own setting
    r"npm(?:js)?\.org",
)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pyproject() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", read("Makefile"), re.MULTILINE))


def make(*arguments: str, **environment: str) -> str:
    """Print what make would run, with everything installed already."""
    command = ["make", "--dry-run", "--always-make", "--no-print-directory", *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        command, cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True, check=False, timeout=30
    )
    return done.stdout + done.stderr


def project_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    names = listed.stdout.splitlines() or [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py")]
    files = [ROOT / name for name in names if name.endswith(TEXTS) or "." not in Path(name).name]
    return [path for path in files if path.is_file() and path.name not in LOCKS]


@pytest.fixture
def compose() -> Any:
    return yaml.safe_load(read("compose.yaml"))


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_everything_by_hash_and_names_no_address(lock: str) -> None:
    entries = [entry for entry in re.split(r"\n(?=[A-Za-z0-9])", read(lock)) if not entry.startswith("#")]
    assert len(entries) > 30
    for entry in entries:
        assert re.match(r"[A-Za-z0-9_.-]+==\S+", entry)
        assert "--hash=sha256:" in entry
    assert not re.search(r"://|^-|index|find-links", read(lock), re.MULTILINE)


def test_all_locks_pin_the_same_versions() -> None:
    small, large, bench = (dict(re.findall(r"^([\w.-]+)==([^\s;]+)", read(lock), re.MULTILINE)) for lock in LOCKS)
    assert small.items() | bench.items() <= large.items()


def test_the_small_lock_has_all_that_running_needs() -> None:
    groups = pyproject()["dependency-groups"]
    wanted = pyproject()["project"]["dependencies"] + groups["simulator"] + groups["build"]
    names = {re.split(r"[^\w.-]", requirement)[0].lower() for requirement in wanted}
    assert names <= set(re.findall(r"^([\w.-]+)==", read("requirements.txt"), re.MULTILINE))


def test_make_alone_explains_itself() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout
    assert {"demo", "test", "run", "enqueue", "worker", "install", "lint", "redis-stop", "help"} <= targets()
    for target in targets():
        assert f"make {target} " in shown


def test_make_passes_a_value_through_whole() -> None:
    name = 'my prompts; $(touch x) `y` "z" it\'s,$HOME.jsonl'
    shown = make("enqueue", f"FILE={name}", "MODEL=owner/name", "NAME=night 1")
    shell = shown.strip().splitlines()[-1].replace(".venv/bin/python", "printf '<%s>'")
    printed = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout
    assert printed == f"<-m><jobs><enqueue><--name=night 1><--model=owner/name><--><{name}>"


OPTIONS = {
    "NAME": "--name", "MODEL": "--model", "INPUT": "--input", "LIMIT": "--limit", "PRIORITY": "--priority",
    "MAX_PREDICTIONS": "--max-predictions", "MAX_COST": "--max-cost", "MAX_IN_FLIGHT": "--max-in-flight",
    "EACH_FILE": "--each-file", "FROM": "--from", "AS": "--as",
    "EACH": "--each", "REPEAT": "--repeat", "SEED_FROM": "--seed-from",
    "TEMPLATE": "--template", "SAMPLE": "--sample", "SAMPLE_SEED": "--sample-seed", "MAP": "--map",
    "CONFIRM_ABOVE": "--confirm-above",
}  # fmt: skip


@pytest.mark.parametrize("target", ["run", "enqueue"])
def test_make_takes_what_the_command_takes(target: str) -> None:
    shown = make(target, "FILE=a.jsonl", "JSON=1", *(f"{name}=1" for name in OPTIONS)).split()
    assert set(shown) >= {f"{option}='1'" for option in OPTIONS.values()} | {"--json", "'a.jsonl'"}
    known = get_command(app).commands[target].load().params  # type: ignore[attr-defined]  # it is a group of lazy ones
    names = {option for parameter in known for option in parameter.opts if option.startswith("--")}
    flags = {"--json", "--check", "--append", "--replace", "--all", "--dynamic-prompts"}
    flags |= {"--copy-inputs", "--keep-uploads"}
    rare = {
        "--bell",
        "--pilot",
        "--pilot-seed",
        "--by",
        "--allow-unknown",
        "--allow-literal-secrets",
        "--no-model-check",
    }
    assert names - flags - rare == set(OPTIONS.values())


def test_make_passes_flags_on() -> None:
    assert "-m jobs run --all" in make("run", "FILE=a.jsonl", "ALL=1")
    assert "-m jobs enqueue --check" in make("enqueue", "FILE=a.jsonl", "CHECK=1")
    assert "Write CHECK=1, or leave it out" in make("enqueue", "FILE=a.jsonl", "CHECK=no")
    assert make("status", "BATCH=night", "JSON=1").rstrip().endswith("-m jobs status --json -- 'night'")


@pytest.mark.parametrize(
    ("arguments", "unknown"),
    [
        (["run", "FILE=a.jsonl", "LIMITS=5"], "LIMITS"),
        (["run", "FILE=a.jsonl", "limit=5"], "limit"),
        (["enqueue", "FILE=a.jsonl", "option=x", "given=y"], "given"),
        (["status", "NAME=night"], "NAME"),
        (["worker", "MAX_IN_FLIGHT=5"], "MAX_IN_FLIGHT"),
        (["FILE=a.jsonl"], "FILE"),
    ],
)
def test_make_refuses_what_a_target_does_not_know(arguments: list[str], unknown: str) -> None:
    for done in (make(*arguments), make(*arguments, "VENV=nowhere")):
        assert re.search(rf"make \w+ does not take .*\b{unknown}\b.*; it takes .*Nothing was done", done), done
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", *arguments]
    real = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False, timeout=30)
    assert (real.returncode, real.stdout) == (2, "")
    assert "does not take" in real.stderr


def test_make_takes_settings_as_the_environment_does() -> None:
    shown = make("run", "FILE=a.jsonl", "BATCH_MODEL=a/b", "REDIS_URL=redis://x", "HTTPS_PROXY=y", "PYTHON=python3")
    assert shown.rstrip().endswith("-- 'a.jsonl'")


def test_make_refuses_a_limit_that_would_be_overlooked_in_the_environment() -> None:
    shown = make("run", "FILE=a.jsonl", LIMIT="5")
    assert "LIMIT in the environment does not count: write it after make run" in shown
    assert "-m jobs" not in shown
    assert "-m jobs status" in make("status", LIMIT="5")


@pytest.mark.parametrize(("target", "told"), [("status", "make"), ("install", "")])
def test_commands_know_that_make_started_them(target: str, told: str, tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\n[ "$2" = jobs ] && echo "<$STARTED_BY>"; true\n')
    python.chmod(0o755)
    command = ["make", "--no-print-directory", target, f"VENV={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert (f"<{told}>" in done.stdout) == bool(told)


def test_make_ignores_what_the_environment_happens_to_have() -> None:
    shown = make("run", "FILE=a.jsonl", NAME="x", MODEL="y", BATCH="z")
    assert shown.rstrip().endswith("-- 'a.jsonl'")
    assert re.search(r"-m jobs run +-- 'a\.jsonl'", shown)
    assert "Say which FILE" in make("enqueue", FILE="a.jsonl")


def test_make_says_when_there_is_no_python() -> None:
    command = ["make", "--no-print-directory", "VENV=nowhere", "PYTHON=/nowhere/python", "nowhere/bin/python"]
    tools = {name: shutil.which(name) or "" for name in ("bash", "make")}
    done = subprocess.run(
        [tools["make"], *command[1:], f"SHELL={tools['bash']}"],
        cwd=ROOT, env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode != 0
    assert "No Python 3.11 or newer found" in done.stderr
    assert not (ROOT / "nowhere").exists()


def commands_of(page: str) -> set[str]:
    """Return the make targets that a page tells its reader to type."""
    fences = re.findall(r"^```\n(.*?)^```", read(page), re.MULTILINE | re.DOTALL)
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", read(page))
    return set(re.findall(r"^make ([a-z-]+)", "\n".join(fences + spans), re.MULTILINE))


def test_the_pages_name_only_commands_that_exist() -> None:
    assert {"demo", "test", "run", "enqueue", "worker"} <= commands_of("README.md") <= targets()
    assert {"test", "lint", "demo", "format", "lock"} <= commands_of("CONTRIBUTING.md") <= targets()


def test_the_readme_names_only_producer_commands_that_exist() -> None:
    named = set(re.findall(r"python -m jobs ([a-z-]+)", read("README.md")))
    known = {*JobsCommands.lazy}
    assert {"enqueue", "status", "watch", "results", "retry", "cancel"} <= named <= known


def test_ci_runs_what_contributors_run() -> None:
    assert re.findall(r"^make .*", read(".ci/run"), re.MULTILINE) == ["make lint", "make test"]
    assert "set -euo pipefail" in read(".ci/run")
    jobs = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]
    job = jobs["check"]
    assert job["strategy"]["matrix"] == {
        "os": ["ubuntu-latest", "macos-latest"],
        "python": ["3.11", "3.12", "3.13"],
    }
    assert {"make lint", "make test", "make demo"} <= {step.get("run") for step in job["steps"]}
    assert "make coverage" in {step.get("run") for step in jobs["coverage"]["steps"]}


def test_the_example_lists_every_setting_with_its_default() -> None:
    lines = re.findall(r"^#?([A-Z][A-Z_]+)=(.*)$", read(".env.example"), re.MULTILINE)
    expected = {}
    for name, field in Config.model_fields.items():
        plain = name in ("replicate_api_token", "replicate_base_url", "redis_url")
        expected[name.upper() if plain else f"BATCH_{name.upper()}"] = text_of(field.default)
    assert dict(lines) == expected
    assert len(lines) == len(expected)


def text_of(default: Any) -> str:
    if default is None or isinstance(default, SecretStr):
        return ""
    if isinstance(default, tuple):
        return ",".join(default)
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_the_readme_lists_every_setting() -> None:
    names = set(re.findall(r"^#?([A-Z][A-Z_]+)=", read(".env.example"), re.MULTILINE))
    assert [name for name in sorted(names) if f"`{name}`" not in read("README.md")] == []


def test_the_readme_lists_every_kind_of_error_and_every_exit_code() -> None:
    rows = [line.split("|")[1].strip() for line in read("README.md").splitlines() if line.startswith("|")]
    start = rows.index("`kind`") + 2
    assert rows[start : start + len(get_args(ErrorKind))] == [f"`{kind}`" for kind in get_args(ErrorKind)]
    errors = [error for error in vars(errors_of_jobs).values() if isinstance(error, type)]
    codes = {0, STOPPED, CLOSED_PIPE} | {error.exit_code for error in errors if issubclass(error, BatchError)}
    start = rows.index("exit code") + 2
    assert rows[start : start + len(codes)] == [str(code) for code in sorted(codes)]


def test_compose_keeps_what_is_paid_for(compose: Any) -> None:
    valkey = compose["services"]["valkey"]
    command = " ".join(valkey["command"])
    assert "--appendonly yes --appendfsync always" in command
    assert "--maxmemory-policy noeviction" in command
    assert valkey["healthcheck"]["test"][1:] == ["valkey-cli", "-e", "ping"]
    assert valkey["volumes"] == ["valkey:/data"]
    assert set(compose["volumes"]) == {"valkey", "outputs"}


def test_compose_scales_workers_that_may_finish(compose: Any) -> None:
    worker = compose["services"]["worker"]
    assert "container_name" not in worker
    assert "ports" not in worker
    assert worker["stop_grace_period"] == "45s"
    assert worker["env_file"] == [{"path": ".env", "required": False}]
    assert worker["depends_on"] == {"valkey": {"condition": "service_healthy"}}
    assert worker["environment"]["BATCH_OUTPUT_DIR"] == "/app/outputs"
    assert "${OUTPUTS:-outputs}:/app/outputs" in worker["volumes"]


def test_compose_runs_the_demo_only_when_asked(compose: Any) -> None:
    services = compose["services"]
    assert {name for name, service in services.items() if "profiles" in service} == {"simulator", "demo", "dashboard"}
    assert services["demo"]["profiles"] == ["demo"]
    assert services["demo"]["environment"]["REPLICATE_BASE_URL"] == "http://127.0.0.1:5555"
    assert services["demo"]["network_mode"] == "service:simulator"


def test_compose_is_valid() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed; CI has it")
    command = [docker, "compose", "--profile", "demo", "config", "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert set(json.loads(done.stdout)["services"]) == {"valkey", "worker", "simulator", "demo"}


def test_the_image_is_small_and_not_root() -> None:
    stages = read("Dockerfile").split("\nFROM ")
    assert len(stages) == 3
    final = stages[-1]
    assert "slim" in final.splitlines()[0]
    assert re.search(r"^USER app$", final, re.MULTILINE)
    assert re.search(r'^HEALTHCHECK .*CMD \["python", "-m", "worker", "check"\]$', final, re.MULTILINE)
    assert "pip" not in final
    build = stages[1]
    assert build.index("COPY requirements.txt") < build.index("--require-hashes") < build.index("COPY jobs")


@pytest.mark.parametrize(("file", "installs"), [("Makefile", 1), ("Dockerfile", 1)])
def test_a_lock_is_installed_as_it_is_and_checked(file: str, installs: int) -> None:
    """Stock pip of Python 3.11 resolves again what is named with an extra, unless it is told not to."""
    lines = [line for line in read(file).splitlines() if "--require-hashes" in line]
    assert len(lines) == installs
    assert all("--no-deps" in line and re.search(r"&& (\$\(pip\)|pip) check", line) for line in lines)


def test_the_image_has_every_package() -> None:
    kept = set(re.findall(r"^!(.+)$", read(".dockerignore"), re.MULTILINE))
    copied = set(re.findall(r"^COPY (?!--)(.+) \S+$", read("Dockerfile"), re.MULTILINE))
    assert set(" ".join(copied).split()) == kept
    assert set(pyproject()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= kept


def test_the_readme_has_the_rights_that_a_user_of_redis_needs() -> None:
    assert f"\n{ACL_LINE}\n" in read("README.md")


def test_one_version_everywhere() -> None:
    newest = re.search(r"^## (?!Unreleased$)(\S+)", read("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert pyproject()["project"]["version"] == newest[1]


def test_nothing_names_somebodys_machine_or_a_package_index() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in project_files()
        for pattern in NO_MENTION
        for match in re.finditer(pattern, path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []


@pytest.mark.parametrize("words", [("see /home", "me"), ("..", "notes", "page.md"), ("https:", "", f"pypi{'.'}org")])
def test_the_check_of_mentions_can_fail(words: tuple[str, ...]) -> None:
    assert any(re.search(pattern, "/".join(words)) for pattern in NO_MENTION)
