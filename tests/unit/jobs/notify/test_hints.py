from __future__ import annotations

import pytest

from jobs.notify.overview import hint_for
from jobs.notify.receiver import DELIVERED, Outcome, Receiver

SIGNED = Receiver("ops", "webhook", "https://example.com", b"secret")


@pytest.mark.parametrize(
    ("receiver", "outcome", "hint"),
    [
        (SIGNED, DELIVERED, ""),
        (SIGNED, Outcome("HTTP 401: no"), "is its secret the one that secret_env names?"),
        (Receiver("ops", "webhook", "https://example.com"), Outcome("HTTP 403"), "it may want one: secret_env"),
        (SIGNED, Outcome("HTTP 404: nothing here"), "is its path right?"),
        (SIGNED, Outcome("no answer (ConnectError: refused)"), "is something listening at that address"),
        (SIGNED, Outcome("HTTP 500"), ""),
        (Receiver("script", "command", "./over.sh"), Outcome("HTTP 401"), ""),
    ],
)
def test_a_test_message_that_fails_says_what_may_be_wrong(receiver: Receiver, outcome: Outcome, hint: str) -> None:
    found = hint_for(receiver, outcome)
    assert (found or "") == hint or (hint and hint in str(found))
