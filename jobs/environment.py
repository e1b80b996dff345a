"""What the environment says of how a command was started, apart from its settings."""

from __future__ import annotations

import os


def started_by_make() -> bool:
    """Whether one of our make targets runs this command; MAKELEVEL would be set by other makefiles, too."""
    return {**os.environ}.get("STARTED_BY") == "make"


def wants_color(*, is_terminal: bool) -> bool:
    """Whether lines are colored: on a terminal that can show it, unless NO_COLOR or FORCE_COLOR decides."""
    environment = {**os.environ}
    if environment.get("NO_COLOR"):
        return False
    return bool(environment.get("FORCE_COLOR")) or (is_terminal and environment.get("TERM") != "dumb")
