"""Checks of the network: proxies, the token, the clocks, and the hosts of outputs; one free request."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from jobs.config import Config
from jobs.errors import AccountRefused, ConfigError, RateLimited, ReplicateError
from jobs.network import Network
from jobs.replicate_api.client import api_client
from jobs.replicate_api.predictions import Replicate
from worker.doctor.finding import Finding, failure, ok, warning

SLOW_CLOCK, WRONG_CLOCK = 10.0, 120.0
"""Seconds. Predictions are searched for by their times; a constant difference is allowed for, a jump is not."""

RESOLVE_SECONDS = 5.0
TOKENS = "https://replicate.com/account/api-tokens"


def network_findings(_: Config) -> list[Finding]:
    """Report the proxies in use, or what is wrong with the environment's proxies and certificates."""
    try:
        return [ok("network", Network.load().shown())]
    except ConfigError as error:
        return [failure("network", str(error))]


async def api_findings(config: Config) -> list[Finding]:
    """Request the account; every expected error is a finding."""
    try:
        Network.load()
    except ConfigError:
        return [warning("account", "not looked at: the environment's proxy or certificates are wrong")]
    if config.replicate_api_token is None:
        return [failure("token", "REPLICATE_API_TOKEN is not set", f"put it in the environment or in .env: {TOKENS}")]
    try:
        async with api_client(config) as client:
            replicate = Replicate(client, config)
            name = await replicate.account()
    except (ReplicateError, ConfigError) as error:
        return [_refusal(config, error)]
    return [
        ok("account", f"{name} at {config.replicate_base_url}; the token is valid"),
        clock_finding(replicate.clock_offset),
    ]


async def host_findings(config: Config) -> list[Finding]:
    """Report which hosts outputs may come from, and whether their names resolve."""
    shown = ", ".join(config.output_hosts)
    if _has_proxy():
        return [ok("hosts", f"{shown}; a proxy finds their addresses")]
    unknown = [host for host in config.output_hosts if not host.startswith("*.") and not await _resolves(host)]
    if unknown:
        cure = "look at the network and its DNS, and at BATCH_OUTPUT_HOSTS"
        return [warning("hosts", f"{shown}; no address is known of {', '.join(unknown)}", cure)]
    return [ok("hosts", shown)]


def _refusal(config: Config, error: ReplicateError | ConfigError) -> Finding:
    if isinstance(error, ConfigError):
        return failure("token", str(error), f"copy it again from {TOKENS}")
    if isinstance(error, AccountRefused):
        cure = f"put a valid token in REPLICATE_API_TOKEN or .env ({TOKENS}), or add credit to the account"
        return failure("token", f"{config.replicate_base_url} refuses it: {error}", cure)
    if isinstance(error, RateLimited):
        return warning("account", f"the API holds us back: {error}", "other programs of this account use up its limits")
    cure = "look at the network, at REPLICATE_BASE_URL and at https://www.replicatestatus.com"
    return failure("account", f"{config.replicate_base_url} does not answer as expected: {error}", cure)


def clock_finding(ahead: float) -> Finding:
    """Judge our clock by the API's; 0: its answer has no date."""
    if not ahead:
        return warning("api clock", "the API's answer has no date: our clock cannot be compared")
    shown = f"the API's clock and ours differ by {abs(ahead):.1f} s"
    cure = "set this machine's clock right, with NTP for instance"
    if abs(ahead) > WRONG_CLOCK:
        return failure("api clock", shown, cure)
    return warning("api clock", shown, cure) if abs(ahead) > SLOW_CLOCK else ok("api clock", shown)


def _has_proxy() -> bool:
    with suppress(ConfigError):
        return bool(Network.load().proxies)
    return False


async def _resolves(host: str) -> bool:
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return False
    return True
