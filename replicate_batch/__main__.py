"""`replicate-batch`, the same as `python -m replicate_batch`: the commands of `python -m jobs`, and all others.

What talks to Replicate, and the simulator, are loaded when they are asked for: `status` and `--help` stay quick.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from jobs.cli import app as cli
from jobs.errors import InputError

OF_WORKER = {
    "worker": "Work until stopped; also fires schedules.toml.",
    "check": "Tell whether the workers started here are alive.",
    "doctor": "Check all that a night's work needs.",
    "orphans": "List predictions of the account that nothing knows.",
}
"""The commands of `python -m worker`, each with its line of help."""

AS_THEY_ARE = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}
"""Options of a command that parses them itself, `--help` too."""


def _of_worker(name: str) -> Callable[[typer.Context], None]:
    def command(ctx: typer.Context) -> None:
        from worker.cli import app  # noqa: PLC0415

        app(args=[name, *ctx.args], prog_name="replicate-batch")

    return command


def _simulator(ctx: typer.Context) -> None:
    try:
        from simulator.__main__ import main  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise InputError(
            f"the simulator needs {error.name}, which is not installed here. `make install` in a clone has all of it; "
            "else: pip install pillow python-multipart starlette uvicorn"
        ) from None
    main(ctx.args)


def _add(name: str, line: str, command: Callable[[typer.Context], None]) -> None:
    cli.app.command(name, help=line, context_settings=AS_THEY_ARE, add_help_option=False)(command)


def main() -> None:
    """Run the command that the arguments name."""
    for name, line in OF_WORKER.items():
        _add(name, line, _of_worker(name))
    _add("simulator", "Stand in for Replicate's API, to try things for free.", _simulator)
    cli.main()


if __name__ == "__main__":
    main()
