"""E-mail and chat by the library apprise, in a process of its own: it may hang, and few workers need it in memory."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from urllib.parse import unquote

from jobs.notify.command import run_process
from jobs.notify.event import Event
from jobs.notify.receiver import DELIVERED, Outcome, Receiver

_ADDRESS = re.compile(r"(\w+)://\S+")
"""Apprise shortens addresses, but shows the first and the last character of a password."""

LEAST_MASKED = 4
"""Characters of a part of an address that is masked in what apprise says."""

FAILED, WRONG_ADDRESS = 1, 2


async def send_by_apprise(receiver: Receiver, event: Event, environment: Mapping[str, str]) -> Outcome:
    """Send an event to one address of apprise."""
    message = json.dumps({"url": receiver.target, "title": event.subject, "body": event.text or event.subject})
    command = [sys.executable, "-m", "jobs.notify.services"]
    code, output = await run_process(command, environment, message.encode(), receiver.timeout)
    if code == 0:
        return DELIVERED
    if code is None:
        return Outcome(f"no answer within {receiver.timeout:g} s")
    why = " ".join(masked(output, receiver.target).split())[:400] or "apprise did not say why"
    return Outcome(why, final=code == WRONG_ADDRESS)


def masked(text: str, url: str) -> str:
    """A text without the parts of an address, as they may be secret; its scheme stays."""
    parts = {part for part in re.split(r"[:/@?&=,]+", url.partition("://")[2]) if len(part) >= LEAST_MASKED}
    parts |= {unquote(part) for part in parts}
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, "…")
    return _ADDRESS.sub(r"\1://…", text)


def main() -> int:
    """Send the message that standard input has; what goes wrong is printed."""
    from apprise import Apprise, AppriseAsset, NotifyFormat

    message = json.load(sys.stdin)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    service = Apprise(asset=AppriseAsset(app_id="replicate-batch", app_desc="batches at Replicate", app_url=""))
    if not service.add(message["url"]):
        return WRONG_ADDRESS
    sent = service.notify(title=message["title"], body=message["body"], body_format=NotifyFormat.TEXT)
    return 0 if sent else FAILED


if __name__ == "__main__":
    sys.exit(main())
