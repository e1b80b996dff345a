"""`python -m worker doctor`: each check says what is the matter, with the cure, and hides no other."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from jobs.account.account import Account
from jobs.account.live_workers import send_heartbeat
from jobs.config import Config
from jobs.notify.delivery import Record
from jobs.queue.dead_letters import DeadLetters
from jobs.queue.payload import JobId
from jobs.redis_client import client as connection
from jobs.redis_client import embedded
from jobs.redis_client.resilience import Redis
from jobs.schedules.state import ScheduleState, ScheduleStates
from jobs.state.batches import Batches
from jobs.state.outbox import Outbox
from jobs.wire import Batch
from tests.json_outputs import is_as_described
from worker.doctor import machine
from worker.doctor.examine import _run_check, examine
from worker.doctor.finding import Finding, finding_lines
from worker.doctor.machine import file_findings, room_findings, speed_findings
from worker.doctor.network import api_findings, host_findings
from worker.doctor.redis_server import redis_findings
from worker.doctor.status import (
    batch_findings,
    delivery_findings,
    limit_findings,
    notify_file_findings,
    pause_findings,
    price_file_findings,
    schedule_file_findings,
    schedule_findings,
    worker_findings,
)
from worker.limits.rate_limiter import RateLimiter

Settings = dict[str, str]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Redis]:
    """A Redis of our own, whose settings a test may change."""
    home = tmp_path / "server"
    url = "unix://" + quote(str(embedded.ensure_running(home)))
    client = connection.connect(url)
    yield client
    await client.aclose()
    embedded.stop(home)


def of(findings: list[Finding], check: str) -> Finding:
    (found,) = (finding for finding in findings if finding.check == check)
    return found


# Redis


async def test_the_embedded_server_is_fit(server: Redis) -> None:
    findings = await redis_findings(server)
    assert [finding.check for finding in findings] == ["redis", "persistence", "eviction", "memory", "redis clock"]
    assert {finding.verdict for finding in findings} == {"ok"}


@pytest.mark.parametrize(
    ("settings", "check", "verdict", "message"),
    [
        ({"appendonly": "no"}, "persistence", "failure", "appendonly is off"),
        ({"appendfsync": "everysec"}, "persistence", "warning", "the last two seconds may be paid again"),
        ({"appendfsync": "no"}, "persistence", "warning", "appendfsync is no"),
        ({"maxmemory-policy": "allkeys-lru"}, "eviction", "failure", "the policy is allkeys-lru"),
        ({"maxmemory": "1100000"}, "memory", "failure", "its maxmemory"),
    ],
)
async def test_what_a_server_lacks(server: Redis, settings: Settings, check: str, verdict: str, message: str) -> None:
    for name, value in settings.items():
        await server.config_set(name, value)
    found = of(await redis_findings(server), check)
    assert (found.verdict, message in found.message, bool(found.cure)) == (verdict, True, True)


async def test_a_server_that_shows_no_settings(server: Redis) -> None:
    await server.acl_setuser("guest", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-config"])
    async with Redis(connection_pool=server.connection_pool, single_connection_client=True) as guest:
        await guest.auth("x", "guest")
        found = of(await redis_findings(guest), "persistence")
    assert (found.verdict, "does not show its settings" in found.message) == ("warning", True)


# The account and its limits


async def test_account_and_clock(config: Config) -> None:
    account, clock = await api_findings(config)
    assert (account.verdict, clock.verdict) == ("ok", "ok")
    assert "the token is valid" in account.message


async def test_a_token_that_is_refused(config: Config, redis: Redis, simulator: Any) -> None:
    simulator.settings(token="another")
    (found,) = await api_findings(config)
    assert (found.check, found.verdict) == ("token", "failure")
    assert "REPLICATE_API_TOKEN" in (found.cure or "")
    assert await Account(redis, config.api_host).pause_reason() is None, "the workers may have a better one"


@pytest.mark.parametrize(
    ("token", "verdict"), [(None, "is not set"), (SecretStr("zwölf"), "characters that no token has")]
)
async def test_a_token_that_is_none(config: Config, token: SecretStr | None, verdict: str) -> None:
    (found,) = await api_findings(config.model_copy(update={"replicate_api_token": token}))
    assert (found.check, found.verdict, verdict in found.message) == ("token", "failure", True)


async def test_quotes_that_docker_kept(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.redis_url
    monkeypatch.setenv("REDIS_URL", f'"{config.redis_url.get_secret_value()}"')
    monkeypatch.setenv("BATCH_OUTPUT_HOSTS", "localhost")
    found = await examine()
    assert of(found, "settings").message == "every setting is valid; the quotes around REDIS_URL are left out"
    assert of(found, "workers").verdict == "warning"


async def test_an_api_that_does_not_answer(config: Config) -> None:
    (found,) = await api_findings(config.model_copy(update={"replicate_base_url": "http://127.0.0.1:1"}))
    assert (found.verdict, "127.0.0.1:1" in found.message) == ("failure", True)
    assert "REPLICATE_BASE_URL" in (found.cure or "")


async def test_an_api_that_holds_us_back(config: Config, simulator: Any) -> None:
    simulator.control(throttle={"next": 1, "kinds": ["account"]})
    (found,) = await api_findings(config)
    assert found.verdict == "warning"


async def test_limits_in_force(config: Config, redis: Redis) -> None:
    (found,) = await limit_findings(redis, config)
    assert (found.verdict, found.message) == ("ok", "600 creates and 3000 reads a minute for all workers")
    async with RateLimiter(redis, config.api_host, {"create": 600.0, "read": 3000.0}) as limiter:
        await limiter.hold("create", 30, "reduced")
        await limiter.hold("read", 20)
    messages = [finding.message for finding in await limit_findings(redis, config) if finding.verdict == "warning"]
    assert [message.partition(" for ")[0] for message in messages] == [
        "create: six a minute",
        "create: the API said 429; nothing starts",
        "read: the API said 429; nothing starts",
    ]


async def test_pauses(config: Config, redis: Redis) -> None:
    account = Account(redis, config.api_host)
    assert [finding.verdict for finding in await pause_findings(redis, config)] == ["ok"]
    await account.pause("no credit")
    await account.report_trouble("the disk is full")
    await account.set_notice("the API does not answer")
    found = await pause_findings(redis, config)
    assert [finding.message for finding in found] == [
        "everything is paused: no credit",
        "creates wait: the disk is full",
        "the API does not answer",
    ]
    assert "python -m jobs resume" in (found[0].cure or "")


# What is to be done


async def test_workers(config: Config, redis: Redis) -> None:
    (found,) = await worker_findings(redis, config)
    assert (found.verdict, found.cure) == ("warning", "python -m arq worker.Settings")
    await send_heartbeat(redis, config.api_host, "one", 60)
    (found,) = await worker_findings(redis, config)
    assert (found.verdict, found.message) == ("ok", "1 up")


async def test_batches(config: Config, redis: Redis) -> None:
    assert of(await batch_findings(redis, config), "batches").message == "all are finished"
    for name, api_host in (("ours", config.api_host), ("other", "elsewhere")):
        await Batches(redis).open(Batch(name, "id", api_host, time.time(), 1200, generation=0, priority=1.0))
    assert of(await batch_findings(redis, config), "batches").message == "1 not finished, 1,200 prompts to do"
    await DeadLetters(redis).move_to_dead_letters(JobId("ours", 1, 0), "three runs died")
    _, dead = await batch_findings(redis, config)
    assert (dead.verdict, "ours: prompts 101 to 200 are a dead letter: three runs died" in dead.message) == (
        "warning",
        True,
    )


def test_prices(config: Config, tmp_path: Path) -> None:
    config = config.model_copy(update={"prices_file": tmp_path / "prices.toml"})
    assert of(price_file_findings(config), "prices").message == f"none in BATCH_PRICES, none in {config.prices_file}"
    price = 'prices = [{ metric = "run_count", dollars = 1 }]'
    config.prices_file.write_text(f'[[model]]\nname = "a/b"\n{price}\n')
    assert "1 in" in of(price_file_findings(config), "prices").message
    config.prices_file.write_text("[[model]]\n")
    wrong = of(price_file_findings(config), "prices")
    assert (wrong.verdict, "line 1: there is no name" in wrong.message) == ("failure", True)


async def test_receivers_of_notifications(config: Config, redis: Redis) -> None:
    assert of(notify_file_findings(config), "notify").message == f"no receivers in {config.notify}"
    assert await delivery_findings(redis, config) == []
    config.notify.write_text('on_finish = "true"\n')
    assert of(notify_file_findings(config), "notify").message == f"1 receiver in {config.notify}"
    outbox = Outbox(redis, config.api_host)
    for error, delivered in (("exit code 3", False), (None, True)):
        record = Record(
            receiver="on_finish", event="finished", title="x", at="2026-11-28T09:00:00.000Z", tries=1,
            delivered=delivered, error=error,
        )  # fmt: skip
        await outbox.end("on_finish/1", record.model_dump())
        failed = [(one.verdict, one.message) for one in await delivery_findings(redis, config)]
        assert failed == ([] if delivered else [("warning", "on_finish was not reached: exit code 3")])
    config.notify.write_text("on_finis = 1\n")
    wrong = of(notify_file_findings(config), "notify")
    assert (wrong.verdict, "line 1: unknown key 'on_finis'" in wrong.message) == ("failure", True)


async def test_schedules(config: Config, redis: Redis, tmp_path: Path) -> None:
    assert of(schedule_file_findings(config), "schedules").message == f"none in {config.schedules}"
    nightly = "[[schedule]]\nname = 'nightly'\ncron = '0 2 * * *'\nfile = 'prompts.jsonl'\n"
    config.schedules.write_text(nightly)
    assert of(schedule_file_findings(config), "schedules").message == f"1 in {config.schedules}"
    missing = of(await schedule_findings(redis, config), "schedules")
    assert (missing.verdict, "there is no file" in missing.message) == ("warning", True)
    (tmp_path / "prompts.jsonl").touch()
    fine = of(await schedule_findings(redis, config), "schedules")
    assert (fine.verdict, fine.message[:15]) == ("ok", "nightly: next 2")
    config.schedules.write_text(nightly + "[[schedule]]\nname = 'b'\nfile = 'prompts.jsonl'\n")
    wrong = of(schedule_file_findings(config), "schedules")
    assert (wrong.verdict, "line 5: the schedule has no cron" in wrong.message) == ("failure", True)
    assert of(await schedule_findings(redis, config), "schedules") == fine, "the other one is as it was"
    config.schedules.write_text("nightly")
    assert "line 1" in of(schedule_file_findings(config), "schedules").message
    assert await schedule_findings(redis, config) == []


async def test_what_a_schedule_missed_is_told(config: Config, redis: Redis, tmp_path: Path) -> None:
    config.schedules.write_text("[[schedule]]\nname = 'nightly'\ncron = '0 2 * * *'\nfile = 'prompts.jsonl'\n")
    (tmp_path / "prompts.jsonl").touch()
    state = ScheduleState(times="0 2 * * * local", seen=0).with_miss(86_400, "nightly-1970-01-02T0000", "it was gone")
    await ScheduleStates(redis, config.api_host).save("nightly", state)
    missed = of(await schedule_findings(redis, config), "schedules")
    assert (missed.verdict, "was missed: it was gone" in missed.message) == ("warning", True)


# The machine


def test_room(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    assert of(room_findings(config), "outputs").verdict == "ok"
    assert not config.output_dir.exists(), "nothing is made by looking"
    for name, verdict in (("LITTLE_ROOM", "warning"), ("NO_ROOM", "failure")):
        monkeypatch.setattr(machine, name, 1e18)
        assert of(room_findings(config), "outputs").verdict == verdict


def test_an_output_folder_that_is_none(config: Config) -> None:
    config.output_dir.touch()
    (found,) = room_findings(config)
    assert (found.verdict, "is no folder" in found.message) == ("failure", True)


def test_speed_leaves_nothing_behind(config: Config) -> None:
    config.output_dir.mkdir()
    assert "MB/s" in of(speed_findings(config), "disk speed").message
    assert list(config.output_dir.iterdir()) == []
    hasty = config.model_copy(update={"creates_per_minute": 1e12})
    assert of(speed_findings(hasty), "disk speed").verdict == "warning"


async def test_hosts(config: Config) -> None:
    def hosts(*names: str) -> Config:
        return config.model_copy(update={"output_hosts": names})

    assert of(await host_findings(hosts("localhost", "*.invalid")), "hosts").verdict == "ok"
    found = of(await host_findings(hosts("localhost", "nowhere.invalid")), "hosts")
    assert (found.verdict, "no address is known of nowhere.invalid" in found.message) == ("warning", True)


def test_open_files(config: Config, nursery: Any, child_env: dict[str, str]) -> None:
    assert of(file_findings(config), "open files").verdict == "ok"
    few = ("sh", "-c", 'ulimit -n 900 && exec "$@"', "sh")
    answer = nursery.run("-m", "worker", "doctor", "--json", env=child_env, within=few)
    found = of([Finding(**found) for found in json.loads(answer.out)], "open files")
    assert (found.verdict, "900" in found.message) == ("warning", True)


# All together


async def test_a_check_that_fails_hides_no_other() -> None:
    async def odd() -> list[Finding]:
        raise KeyError("odd")

    (found,) = await _run_check("odd", odd())
    assert (found.verdict, "KeyError" in found.message) == ("failure", True)


def test_the_command_when_all_is_well(cli: Callable[..., Any], simulator: Any) -> None:
    calls = simulator.ledger(summary=True)["calls"]
    answer = cli("doctor", "--json", module="worker")
    assert is_as_described("findings", answer.out)
    findings = [Finding(**found) for found in json.loads(answer.out)]
    # The tests' own Redis keeps nothing.
    assert [found.check for found in findings if found.verdict == "failure"] == ["persistence"], answer.out
    assert (answer.code, answer.err) == (1, "")
    assert {"settings", "redis", "limits", "account", "api clock", "hosts", "outputs", "disk speed", "open files"} <= {
        found.check for found in findings
    }
    after = simulator.ledger(summary=True)["calls"]
    assert sum(after.values()) - sum(calls.values()) == 1, "one free call"


def test_the_command_when_nothing_is(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "schedules.toml").write_text("[")
    wrong = {"redis_url": f"unix://{tmp_path}/nothing", "replicate_base_url": "http://127.0.0.1:1"}
    answer = cli("doctor", module="worker", **wrong)
    assert (answer.code, answer.err) == (1, "")
    failed = [line.split()[1] for line in answer.out.splitlines() if line.startswith("failure")]
    assert failed == ["redis", "account", "schedules"]
    assert answer.out.count("not looked at: Redis does not answer") == 6
    assert answer.out.splitlines()[-1].endswith("3 failures")


def test_a_wrong_setting_is_a_failure_too(cli: Callable[..., Any]) -> None:
    answer = cli("doctor", module="worker", max_in_flight=-1)
    assert (answer.code, answer.err) == (1, "")
    assert answer.out.startswith("failure  settings    BATCH_MAX_IN_FLIGHT")


def test_lines_for_people() -> None:
    lines = finding_lines([Finding(check="pause", verdict="warning", message="paused", cure="resume")])
    assert list(lines) == [
        "warning  pause       paused",
        "                     → resume",
        "0 ok, 1 warning, 0 failures",
    ]
