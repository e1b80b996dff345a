"""What is wrong with a command line is said before anything is opened or read."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from jobs.cli.app import app


def test_version() -> None:
    answer = CliRunner().invoke(app, ["--version"])
    assert answer.exit_code == 0
    assert answer.stdout.startswith("replicate-batch ")


def test_help_says_all_of_each_command_in_its_line() -> None:
    answer = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"})
    assert answer.exit_code == 0
    commands = answer.stdout.partition("Run:")[2]
    assert "redis-stop" in commands
    assert "..." not in commands
    assert "\nCommands:" not in commands, "a command has no heading"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "Usage"),
        (["stauts"], "'status'"),
        (["status", "--jsn"], "--jsn"),
        (["status", "a", "b"], "unexpected"),
        (["enqueue"], "FILE"),
        (["enqueue", "-"], "--name"),
        (["enqueue", "f.jsonl", "--input", "steps"], "'steps' is not KEY=VALUE"),
        (["enqueue", "f.jsonl", "--each", "seed=5..1"], "'5..1' counts down"),
        (["run", "f.jsonl", "--each", "seed=1", "--each", "seed=2"], "seed is given twice"),
        (["run", "f.jsonl", "--seed-from", "1"], "--repeat"),
        (["run", "f.jsonl", "--repeat", "0"], "--repeat"),
        (["run", "f.jsonl", "--template", "{a|b"], "a { has no }"),
        (["run", "f.jsonl", "--template", "a", "--dynamic-prompts"], "exclude each other"),
        (["run", "f.jsonl", "--map", "prompt"], "is not OLD=NEW"),
        (["run", "f.jsonl", "--map", "a=b", "--map", "a=c"], "a is given twice"),
        (["run", "f.jsonl", "--map", "a=b", "--map", "c=b"], "two columns would be b"),
        (["run", "f.jsonl", "--map", "a=input"], "'input' is no column"),
        (["run", "f.jsonl", "--sample", "3"], "it needs --template"),
        (["run", "f.jsonl", "--template", "{a|b}", "--sample-seed", "3"], "it needs --sample"),
        (["run", "f.jsonl", "--template", "{3$$a|b|c}" * 9, "--repeat", "9"], "more than 1,000,000 rows"),
        (["enqueue", "f.jsonl", "--limit", "0"], "--limit"),
        (["enqueue", "f.jsonl", "--limit", "many"], "--limit"),
        (["enqueue", "f.jsonl", "--priority", "0"], "above 0"),
        (["enqueue", "f.jsonl", "--priority", "nan"], "above 0"),
        (["enqueue", "f.jsonl", "--priority", "inf"], "above 0"),
        (["enqueue", "f.jsonl", "--max-predictions", "0"], "--max-predictions"),
        (["enqueue", "f.jsonl", "--max-predictions", "1e9"], "--max-predictions"),
        (["enqueue", "f.jsonl", "--max-predictions", "9999999999"], "--max-predictions"),
        (["enqueue", "f.jsonl", "--max-cost", "0"], "above 0"),
        (["enqueue", "f.jsonl", "--max-cost", "-1"], "no amount in dollars"),
        (["run", "f.jsonl", "--max-cost", "nan"], "no amount in dollars"),
        (["retry", "b", "--max-cost", "inf"], "no amount in dollars"),
        (["retry", "b", "--kind", "outputs_lost"], "did you mean output_lost?"),
        (["limit", "b", "--max-cost", "0"], "above 0"),
        (["limit", "b", "--max-in-flight", "0"], "neither `none` nor a number"),
        (["limit", "b", "--max-predictions", "-1"], "neither `none` nor a number"),
        (["limit", "b", "--priority", "nan"], "above 0"),
        (["retry", "b", "--kind", "nsfw"], "'nsfw' is none of: aborted"),
        (["retry", "b", "--status", "succeeded"], "'succeeded' is not one of"),
        (["retry", "b", "--max-cost", "$5"], "no amount in dollars"),
        (["retry", "b", "--max-cost", "1e30"], "10000000 is the most"),
        (["retry", "b", "--max-cost", "0.0000001"], "six decimals"),
        (["retry", "b", "--max-predictions", "0"], "--max-predictions"),
        (["run", "-"], "--name"),
        (["run", "f.jsonl", "--by", "seven"], "'seven' is no time of day, such as 07:00"),
        (["run", "f.jsonl", "--pilot", "3", "--limit", "2"], "no --limit"),
        (["run", "f.jsonl", "--check"], "--check"),
        (["status", "b", "--failed"], "leave out BATCH"),
        (["status", "--state", "done"], "'done' is none of: queued"),
        (["status", "--since", "soon"], "is no date or time"),
        (["results"], "BATCH"),
        (["delete"], "BATCH"),
    ],
)
def test_bad_usage(arguments: list[str], hint: str) -> None:
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 2
    assert hint in answer.output
    assert isinstance(answer.exception, SystemExit), "no traceback"
