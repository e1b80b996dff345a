"""Keys of inputs that differ from a usual name only in case, number or spelling: perhaps typos."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

USUAL = (
    "prompt", "negative_prompt", "id", "custom_id", "model", "input", "seed", "image", "mask", "width", "height",
    "aspect_ratio", "num_outputs", "num_inference_steps", "guidance_scale", "output_format", "output_quality",
    "prompt_strength", "go_fast", "megapixels", "duration", "max_tokens", "temperature", "system_prompt",
)  # fmt: skip
"""The columns that are no inputs, and inputs that many models have."""

PLURALS = ("images", "masks")
"""Names that models use, too."""

MOST = 1000
"""Most different keys that are checked."""


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().casefold()).removesuffix("s")


_KNOWN = {_plain(name): name for name in USUAL}


def usual_name(key: str) -> str | None:
    """The usual name that a key resembles but is not."""
    known = _KNOWN.get(_plain(key)) if len(key) <= 100 and key not in PLURALS else None
    return known if known != key else None


class KeyNames:
    """The keys of a file's inputs, each with its first line; rows with only `known` keys need not be noted.

    `rows` counts the file's rows where each becomes many.
    """

    def __init__(self) -> None:
        self._lines: dict[str, int] = {}
        self._replaced: dict[str, int] = {}
        self.known = set[str]()
        self.rows = 0

    def note(self, keys: Collection[str], line: int) -> None:
        """Note the keys of a row's input; some rows are noted before others of lower lines."""
        if len(self.known) <= MOST:
            self.known.update(keys)
            for key in keys:
                if line < self._lines.get(key, line + 1):
                    self._lines.pop(key, None)
                    self._lines[key] = line

    def note_replaced(self, keys: Iterable[str], line: int) -> None:
        """Remember that a row has a value of its own for keys that the command line sets."""
        for key in keys:
            self._replaced.setdefault(key, line)

    def warnings(self, inputs: Collection[str] = ()) -> list[str]:
        """A sentence for each key that resembles a usual one; for a plural only if the usual one never occurs.

        `inputs` are keys that models are known to have.
        """
        replaced = [
            f"line {line}: the row has a {key} of its own, which the command line replaces"
            for key, line in self._replaced.items()
        ]
        return replaced + [
            f"line {line}: the input {key!r} is not {usual!r}, and is sent as it is"
            for key, line in sorted(self._lines.items(), key=lambda one: one[1])
            if key not in inputs
            and (usual := usual_name(key))
            and (usual not in self.known or usual.casefold() == key.casefold())
        ]
