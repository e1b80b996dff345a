from __future__ import annotations

import pytest

from jobs.cli.commands.dashboard import address


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1", "http://127.0.0.1:8787/"),
        ("::1", "http://[::1]:8787/"),
        ("0.0.0.0", "http://127.0.0.1:8787/, for other machines at http://"),
        ("::", "http://127.0.0.1:8787/, for other machines at http://"),
    ],
)
def test_the_address_that_is_printed_can_be_opened(host: str, said: str) -> None:
    assert address(host, 8787).startswith(said)
