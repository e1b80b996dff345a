from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from jobs.cli.shell.scripts import MARK, SCRIPTS, install, place_of, shell_of

HOME = Path("/users/ada")
PROGRAM = """#!/bin/sh
printf '%s %s\\n' "$_REPLICATE_BATCH_COMPLETE" "$COMP_CWORD"
printf '%s\\n' "$COMP_WORDS"
echo "an error" >&2
"""


@pytest.mark.parametrize(
    ("shell", "environment", "script", "startup"),
    [
        ("bash", {}, ".local/share/replicate-batch/completion.bash", ".bashrc"),
        ("zsh", {}, ".local/share/replicate-batch/completion.zsh", ".zshrc"),
        ("zsh", {"ZDOTDIR": "/users/ada/z"}, ".local/share/replicate-batch/completion.zsh", "z/.zshrc"),
        ("bash", {"XDG_DATA_HOME": "/users/ada/d"}, "d/replicate-batch/completion.bash", ".bashrc"),
        ("fish", {}, ".config/fish/completions/replicate-batch.fish", None),
        ("fish", {"XDG_CONFIG_HOME": "/users/ada/c"}, "c/fish/completions/replicate-batch.fish", None),
    ],
)
def test_each_shell_has_its_place(shell: str, environment: dict[str, str], script: str, startup: str | None) -> None:
    place = place_of(shell, environment, HOME)
    assert (place.script, place.startup) == (HOME / script, HOME / startup if startup else None)


@pytest.mark.parametrize(
    ("path", "shell"), [("/bin/bash", "bash"), ("/usr/bin/zsh", "zsh"), ("/bin/dash", None), ("", None)]
)
def test_the_shell_is_the_login_shell(path: str, shell: str | None) -> None:
    assert shell_of({"SHELL": path}) == shell


def test_installing_twice_adds_one_line_and_keeps_the_rest(tmp_path: Path) -> None:
    place = place_of("bash", {}, tmp_path)
    (tmp_path / ".bashrc").write_bytes(b"alias ll='ls -l'\nprompt='\xff'")
    for _ in range(2):
        install("bash", place)
    assert place.script.read_text() == SCRIPTS["bash"]
    kept, prompt, line, end = (tmp_path / ".bashrc").read_bytes().split(b"\n")
    assert (kept, prompt, end) == (b"alias ll='ls -l'", b"prompt='\xff'", b"")
    assert line.endswith(MARK.encode())


TRIES = {
    "bash": ". '{0}'; COMP_WORDS=(replicate-batch logs 'a b'); COMP_CWORD=2; _replicate_batch replicate-batch; "
    "printf '%s\\n' \"${{COMPREPLY[@]}}\"",
    "fish": "source '{0}'; complete -C 'replicate-batch logs co'",
}


@pytest.mark.parametrize("shell", TRIES)
def test_a_shell_asks_the_program_and_shows_no_error(shell: str, tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell}")
    place = place_of(shell, {}, tmp_path)
    install(shell, place)
    program = tmp_path / "replicate-batch"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [shell, "-c", TRIES[shell].format(place.script)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "complete_bash 2" in done.stdout.splitlines()
