"""Was anything lost or paid twice? By the folder, by Redis and by the simulator's ledger."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx
from redis import Redis

from jobs.input_files.reference import with_files
from jobs.redis_client import keys
from jobs.secret_inputs import Secrets
from tests.chaos.trial import SECRET, Trial
from worker.prompt.create import MAX_UNKNOWN

UPLOAD = re.compile(r"http://[^/]+/v1/files/(\w+).*")
RUNNING = {"starting", "processing", "queued"}


@dataclass
class Judgement:
    """All checks of a trial that has ended."""

    trial: Trial

    @cached_property
    def prompts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.trial.folder / "prompts.jsonl").read_text().splitlines()]

    @cached_property
    def results(self) -> list[dict[str, Any]]:
        path = self.trial.folder / "results.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @cached_property
    def ledger(self) -> dict[str, Any]:
        found: dict[str, Any] = self.trial.simulator.ledger()
        return found

    @cached_property
    def status(self) -> dict[str, Any]:
        return self.trial.status()

    @cached_property
    def creates(self) -> dict[str, dict[str, Any]]:
        return {create["id"]: create for create in self.ledger["creates"]}

    @cached_property
    def uploads(self) -> dict[str, dict[str, Any]]:
        return {upload["id"]: upload for upload in self.ledger["uploads"]}

    @cached_property
    def named(self) -> Counter[str]:
        """Predictions by how many results name them."""
        return Counter(id_ for result in self.results for id_ in result["prediction_ids"])

    @cached_property
    def strangers(self) -> list[dict[str, Any]]:
        """Creates that no result names."""
        return [create for id_, create in self.creates.items() if id_ not in self.named]

    @cached_property
    def unknown(self) -> int:
        return sum(result["unknown_creates"] for result in self.results)

    @cached_property
    def unclaimed(self) -> list[dict[str, Any]]:
        """Of these, those that workers have not canceled."""
        return [create for create in self.strangers if not create["canceled_by_call"]]

    @cached_property
    def orphans(self) -> int:
        """Late answers that workers have canceled."""
        return sum(create["canceled_by_call"] for create in self.strangers)

    @cached_property
    def lost(self) -> int:
        """Prompts without exactly one whole result."""
        counts = Counter(result["id"] for result in self.results)
        broken = {result["id"] for result in self.results if list(self._damage(result))}
        return sum(counts[prompt["id"]] != 1 or prompt["id"] in broken for prompt in self.prompts)

    @cached_property
    def paid_twice(self) -> int:
        """Unintended creates, second successes of a prompt, and predictions that two prompts name."""
        unmeant = max(0, len(self.unclaimed) - self.unknown)
        shared = sum(count - 1 for count in self.named.values())
        return unmeant + shared + max(0, self._second_successes() - int(self.status.get("output_lost", 0)))

    def _second_successes(self) -> int:
        successes = (
            sum(self.creates[id_]["status"] == "succeeded" for id_ in result["prediction_ids"])
            for result in self.results
        )
        return sum(max(0, count - 1) for count in successes)

    def judge(self) -> list[str]:
        """What is wrong, in sentences."""
        checks = (
            self._results,
            self._payments,
            self._uploads,
            self._counters,
            self._leftovers,
            self._logs,
            self._verify,
        )
        return [complaint for check in checks for complaint in check()]

    def _results(self) -> Iterator[str]:
        if [result["id"] for result in self.results] != [prompt["id"] for prompt in self.prompts]:
            yield f"{len(self.results)} results in another order, or of others, than {len(self.prompts)} prompts"
        for result in self.results:
            yield from self._damage(result)
            if result["status"] != "succeeded" and not (self.trial.free or self._exhausted(result)):
                yield f"{result['id']}: {result['status']}: {result['error']}"

    def _exhausted(self, result: dict[str, Any]) -> bool:
        """Whether it may fail: all its attempts are used up, or all its creates went unanswered."""
        return bool(
            result["attempts"] >= self.trial.config.max_attempts
            or (result["error"]["kind"] == "create_unknown" and result["unknown_creates"] >= MAX_UNKNOWN)
        )

    def _secrets(self) -> Iterator[str]:
        secret = SECRET["CHAOS_SECRET"].encode()
        for path in self.trial.folder.rglob("*"):
            if path.is_file() and secret in path.read_bytes():
                yield f"{path} holds a secret"
        for child in self.trial.nursery.children:
            if secret.decode() in child.log():
                yield f"a worker's log holds a secret: {child.log_file}"
        client: Redis = self.trial.server.client
        for key in client.scan_iter("*"):
            if client.type(key) in (b"hash", "hash") and secret in repr(client.hgetall(key)).encode():
                yield f"{key} holds a secret"

    def _damage(self, result: dict[str, Any]) -> Iterator[str]:
        folder = self.trial.folder
        if not (folder / result["id"] / "prediction.json").is_file():
            yield f"{result['id']}: no record"
        for file in result["files"]:
            path = folder / file["path"]
            data = path.read_bytes() if path.is_file() else b""
            if (len(data), hashlib.sha256(data).hexdigest()) != (file["bytes"], file["sha256"]):
                yield f"{file['path']}: not whole"
            elif self._served[file["url"]] != file["sha256"]:
                yield f"{file['path']}: not what was served"
        for id_ in result["prediction_ids"]:
            if id_ not in self.creates or not self._is_of(self.creates[id_]["input"], result["input"]):
                yield f"{result['id']}: prediction {id_} is not of its input"

    def _is_of(self, sent: Any, given: dict[str, Any]) -> bool:
        """Whether an input was sent for that of a prompt: with its secrets, and uploads of its files' contents."""
        resolved = Secrets(SECRET).resolve(given)
        return bool(self._by_content(sent) == with_files(resolved, lambda reference: f"upload of {reference.sha256}"))

    def _by_content(self, value: Any) -> Any:
        """An input with the sha256 of each upload instead of its URL."""
        if isinstance(value, dict):
            return {key: self._by_content(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._by_content(each) for each in value]
        match = UPLOAD.fullmatch(value) if isinstance(value, str) else None
        return f"upload of {self.uploads[match[1]]['sha256']}" if match else value

    @cached_property
    def _served(self) -> dict[str, str]:
        """The sha256 of every file's URL, as the file host gives it now that all faults are gone."""
        urls = {file["url"] for result in self.results for file in result["files"]}
        with httpx.Client(trust_env=False, follow_redirects=True) as client:
            return {url: hashlib.sha256(client.get(url).content).hexdigest() for url in urls}

    def _payments(self) -> Iterator[str]:
        if self.paid_twice:
            ids = [f"{create['id']} {create['status']} {create['input']}" for create in self.strangers]
            yield f"paid twice: {self.paid_twice} (unknown creates: {self.unknown}); named by no result: {ids}"
        running = [create["id"] for create in self.strangers if create["status"] in RUNNING]
        if running:
            yield f"orphans that still run: {running}"
        if self.ledger["file_tokens"]:
            yield "the file host was sent a token"

    def _uploads(self) -> Iterator[str]:
        for child in self.trial.nursery.children:
            if "signature=" in child.log():
                yield f"a worker's log holds the signature of an upload: {child.log_file}"
        if self.ledger["uploads_left"]:
            left = [upload["id"] for upload in self.uploads.values() if upload["deleted_at"] is None]
            yield f"uploads left: {left}"
        for create in self.creates.values():
            if create["unfetched"]:
                yield f"prediction {create['id']} names an upload that is not there: {create['unfetched']}"

    def _counters(self) -> Iterator[str]:
        counted = Counter(result["status"] for result in self.results)
        expected = {
            "total": len(self.prompts),
            **{name: counted[name] for name in ("succeeded", "failed", "canceled")},
            "in_flight": 0,
            "waiting": 0,
            "unknown_creates": self.unknown,
            "predictions": sum(self.named.values()) + self.unknown,
        }
        for name, value in expected.items():
            if self.status.get(name, value) != value:
                yield f"status: {name} is {self.status[name]} instead of {value}"

    def _leftovers(self) -> Iterator[str]:
        yield from self._secrets()
        saving = self.trial.folder / ".saving"
        if saving.exists() and any(saving.iterdir()):
            yield f"left in .saving: {sorted(path.name for path in saving.iterdir())}"
        client: Redis = self.trial.server.client
        if left := client.hgetall(keys.ledger(self.trial.batch)):
            yield f"left in the ledger: {left}"
        if queued := client.zrange(keys.queue(self.trial.config.api_host), 0, -1):
            yield f"left in the queue: {queued}"
        patterns = (keys.ARQ_JOB, keys.ARQ_RETRY, keys.ARQ_IN_PROGRESS, keys.lease(f"{self.trial.batch}:"))
        # Who is stopped while it asks for a lease leaves it to run out.
        deadline = time.monotonic() + self.trial.config.lease + 1
        while time.monotonic() < deadline and next(client.scan_iter(f"{patterns[-1]}*"), None):
            time.sleep(0.1)
        for key in (key for pattern in patterns for key in client.scan_iter(f"{pattern}*")):
            yield f"left in Redis: {key}"

    def _logs(self) -> Iterator[str]:
        if count := self.trial.stack_traces():
            yield f"stack traces in the workers' logs: {count}"

    def _verify(self) -> Iterator[str]:
        answer = self.trial.cli("verify", self.trial.batch)
        if answer.code:
            yield f"verify: {answer.out}{answer.err}"
