from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from simulator.process import RunningSimulator

TOKEN = "r8_a_token_for_tests"
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""The simulator speaks plain HTTP; to load the certificates of all authorities takes longer than most tests."""

Create = Callable[..., dict[str, Any]]


@pytest.fixture
def plain(simulator: RunningSimulator) -> RunningSimulator:
    """Without looseness, chance and waiting: a prediction has ended when it is created."""
    simulator.settings(
        limiter="off",
        loose=0.0,
        inline=0.0,
        sign_uploads=0.0,
        predict_min=0.0,
        predict_max=0.0,
        queue_min=0.0,
        queue_max=0.0,
    )
    return simulator


@pytest.fixture
def api(plain: RunningSimulator) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=plain.url, headers=headers, trust_env=False, verify=NO_CERTIFICATES) as client:
        yield client


@pytest.fixture
def create(api: httpx.Client) -> Create:
    def post(model: str, values: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = api.post("/v1/predictions", json={"version": model, "input": values or {}}, headers=named)
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body

    return post


@pytest.fixture
def download() -> Callable[..., httpx.Response]:
    def get(url: str, **options: Any) -> httpx.Response:
        with httpx.Client(trust_env=False, verify=NO_CERTIFICATES) as client:
            return client.get(url, **options)

    return get
