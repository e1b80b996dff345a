"""The command line: the commands by name, each of which is imported when it runs."""

from __future__ import annotations

import gc
from typing import Annotated, ClassVar

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]  # exported since its first version

from jobs.terminal import Commands, run_app

COLLECT_EVERY = 50_000
"""New objects after which Python looks for cycles: rows have none, and looking at each takes a fifth of the time."""


class JobsCommands(Commands):
    """The commands of `python -m jobs`, and what `replicate-batch` adds."""

    lazy: ClassVar = {
        "run": ("jobs.cli.commands.run:run", "Enqueue, work with progress shown, sum up: all in one command."),
        "enqueue": ("jobs.cli.commands.enqueue:enqueue", "Check a prompts file and enqueue what is not done yet."),
        "schedules": ("jobs.cli.schedules:app", "List the schedules; exit code 2 when one is wrong."),
        "status": ("jobs.cli.commands.status:status", "Show the state of a batch, or of all batches, newest first."),
        "watch": ("jobs.cli.commands.watch:watch", "Follow a batch, or the newest, until all is done."),
        "logs": ("jobs.cli.history:logs", "Show what happened to a batch, or to one of its prompts."),
        "results": ("jobs.cli.commands.results:results", "Write results.jsonl and errors.jsonl as of now; sum up."),
        "open": ("jobs.cli.history:open_batch", "Open a batch's gallery, or a prompt's files, in a browser."),
        "gallery": ("jobs.cli.commands.gallery:gallery", "Write the batch's gallery as of now and print its path."),
        "costs": ("jobs.cli.costs:costs", "Sum up what the batches in the output folder have cost."),
        "dashboard": (
            "jobs.cli.commands.dashboard:dashboard",
            "Serve pages that show and steer batches as they run.",
        ),
        "retry": ("jobs.cli.steering:retry", "Enqueue again the prompts that failed or were canceled."),
        "limit": ("jobs.cli.steering:limit", "Change a batch's budget, limit or priority, or show them."),
        "pause": ("jobs.cli.steering:pause", "Create nothing more until `resume`; what runs is still saved."),
        "resume": ("jobs.cli.steering:resume", "Lift every pause of account and models, or one batch's."),
        "cancel": ("jobs.cli.steering:cancel", "Cancel what is not done; what runs is canceled at Replicate."),
        "delete": ("jobs.cli.commands.delete:delete", "Forget a batch and take it off the queue; its folder stays."),
        "prices": ("jobs.cli.prices:app", "List the prices of models that are known."),
        "notify": ("jobs.cli.notify:app", "List receivers and last messages; exit 2 when one is wrong."),
        "completion": ("jobs.cli.shell.completion:app", "Let bash, zsh or fish complete names with the Tab key."),
        "verify": ("jobs.cli.commands.verify:verify", "Compare folder, results and Redis; exit 1 if they disagree."),
        "redis-stop": (
            "jobs.cli.commands.redis_stop:redis_stop",
            "Stop the embedded server; it starts again when needed.",
        ),
    }
    sections: ClassVar = {
        "Run": ("run", "enqueue", "worker", "schedules"),
        "Look": ("status", "watch", "logs", "results", "open", "gallery", "costs", "dashboard"),
        "Steer": ("retry", "limit", "pause", "resume", "cancel", "delete"),
        "Set up": ("prices", "notify", "completion", "simulator"),
        "Check and repair": ("verify", "doctor", "check", "orphans", "redis-stop"),
    }


app = typer.Typer(
    cls=JobsCommands, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


def main() -> None:
    """Run the command that the arguments name."""
    completion_init()
    gc.set_threshold(COLLECT_EVERY, *gc.get_threshold()[1:])
    run_app(app)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        from importlib.metadata import version

        typer.echo(f"replicate-batch {version('replicate-batch')}")
        raise typer.Exit


@app.callback()
def replicate_batch(
    *,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run files of prompts through Replicate and find every output on disk."""
