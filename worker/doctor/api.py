"""Does the API know us, and do our clocks agree? One free call."""

from __future__ import annotations

from jobs.config import Config
from jobs.errors import AccountRefused, ConfigError, RateLimited, ReplicateError
from jobs.network import Network
from jobs.replicate_api.client import api_client
from jobs.replicate_api.predictions import Replicate
from worker.doctor.finding import Finding, failure, ok, warning

SLOW_CLOCK, WRONG_CLOCK = 10.0, 120.0
"""Seconds. Predictions are searched for by their times; the difference is allowed for, but not its jumps."""

TOKENS = "https://replicate.com/account/api-tokens"


async def api_findings(config: Config) -> list[Finding]:
    """Ask for the account; raises nothing but what nobody expects."""
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
    return [ok("account", f"{name} at {config.replicate_base_url}; the token is valid"), _clock(replicate.clock_offset)]


def _refusal(config: Config, error: ReplicateError | ConfigError) -> Finding:
    if isinstance(error, ConfigError):
        return failure("token", str(error), f"copy it again from {TOKENS}")
    if isinstance(error, AccountRefused):
        cure = f"put a valid token in REPLICATE_API_TOKEN or .env ({TOKENS}), or mend the account's credit"
        return failure("token", f"{config.replicate_base_url} refuses it: {error}", cure)
    if isinstance(error, RateLimited):
        return warning("account", f"the API holds us back: {error}", "other programs of this account use its limits up")
    cure = "look at the network, at REPLICATE_BASE_URL and at https://www.replicatestatus.com"
    return failure("account", f"{config.replicate_base_url} does not answer as it should: {error}", cure)


def _clock(ahead: float) -> Finding:
    if not ahead:
        return warning("api clock", "the API's answer has no date: our clock cannot be compared")
    shown = f"the API's clock and ours differ by {abs(ahead):.1f} s"
    cure = "set this machine's clock right, with NTP for instance"
    if abs(ahead) > WRONG_CLOCK:
        return failure("api clock", shown, cure)
    return warning("api clock", shown, cure) if abs(ahead) > SLOW_CLOCK else ok("api clock", shown)
