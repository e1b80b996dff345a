"""`completion`: lets a shell complete the names of commands, options, batches, prompts, models and schedules."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs.cli.shell import scripts
from jobs.errors import InputError
from jobs.terminal import print_lines

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})

NOT_ON_PATH = (
    "It completes the command `replicate-batch`, which is not on your PATH: `pip install .` in the clone puts it "
    "there. `python -m jobs` cannot be completed."
)

Shell = Annotated[
    Literal["bash", "zsh", "fish"] | None, typer.Argument(metavar="[SHELL]", help="bash, zsh or fish; default: yours.")
]


@app.callback()
def completion() -> None:
    """Let bash, zsh or fish complete names with the Tab key."""


@app.command()
def install(shell: Shell = None) -> None:
    """Install it for a shell, in your home directory."""
    environment = {**os.environ}
    name = _shell(shell)
    place = scripts.place_of(name, environment, Path.home())
    scripts.install(name, place)
    loaded = f", which {place.startup} loads" if place.startup else ""
    print_lines([f"{place.script} is written{loaded}. Start a new {name}, then: replicate-batch status <Tab>"])
    if not shutil.which(scripts.PROGRAM):
        print_lines([NOT_ON_PATH])


@app.command()
def show(shell: Shell = None) -> None:
    """Print the script, to put it where you want."""
    typer.echo(scripts.SCRIPTS[_shell(shell)], nl=False)


def _shell(given: str | None) -> str:
    name = given or scripts.shell_of({**os.environ})
    if name is None:
        raise InputError("which shell is not known: `replicate-batch completion install bash`, or zsh, or fish")
    return name
