"""Texts of models, rows and servers, as they may be shown."""

from __future__ import annotations


def printable(text: str) -> str:
    """Foreign text without what would steer a terminal; line ends stay."""
    return "".join(c if c == "\n" or c.isprintable() else "�" for c in text)
