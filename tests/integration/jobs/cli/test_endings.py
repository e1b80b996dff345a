"""However a command ends, it says which command comes next."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.redis_client.resilience import Redis
from jobs.state.batches import Batches

NEXT = re.compile(r"python -m (jobs|worker|arq) \w|--\w+|-h\b|The same command")

ENDINGS = """
status; status cats; status nobody; watch nobody; results cats; results nobody; results cats --failed; costs
logs nobody
logs cats nobody; open nobody; gallery nobody; verify cats; limit nobody --priority 2; limit cats --priority 2
limit cats --priority 2 --dry-run; pause; resume; resume; pause --batch cats; resume --batch cats; resume --batch cats
retry cats --dry-run; retry cats; retry nobody; retry cats --kind nothing; cancel cats --dry-run; cancel cats --id one
cancel cats; cancel nobody; delete nobody; delete cats; schedules; schedules next; notify; notify test; prices
prices fetch; enqueue cats.jsonl --model a/b; enqueue cats.jsonl --model a/b --check; retri
"""
AT_THE_END = """
watch cats; status cats; results cats; results cats --failed; verify cats; cancel cats; cancel cats --id one
retry cats --dry-run; limit cats --priority 3; enqueue cats.jsonl --model a/b; delete cats; status --all
"""


async def test_every_ending_says_which_command_comes_next(
    cli: Callable[..., Any], redis: Redis, tmp_path: Path
) -> None:
    (tmp_path / "cats.jsonl").write_text('{"id": "one", "prompt": "x"}\n{"id": "two", "prompt": "y"}\n')
    silent = []

    def end(command: str) -> None:
        answer = cli(*command.split(), model_check=False)
        if not NEXT.search(f"{answer.out}{answer.err}"):
            silent.append((command, answer.out + answer.err))

    end("status")
    end("enqueue cats.jsonl --model a/b")
    for command in re.split(r"[;\n] *", ENDINGS.strip()):
        end(command)
    cli("retry", "cats")
    for index in range(2):
        await Batches(redis).settle("cats", index, "succeeded")
    await Batches(redis).finish("cats")
    for command in re.split(r"[;\n] *", AT_THE_END.strip()):
        end(command)
    assert not silent, "\n".join(map(str, silent))
