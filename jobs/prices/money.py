"""Amounts of money: whole micro-dollars inside, so that sums are exact in Python and in Lua; dollars for people."""

from __future__ import annotations

import math
import re
from fractions import Fraction

MICRO = 1_000_000
"""Micro-dollars in a dollar."""

MOST_COST = 10_000_000 * MICRO
"""The largest budget; sums of this size are still exact in JSON that Lua writes (14 digits)."""

MOST_PRICE = 10_000 * MICRO
_NUMBER = re.compile(r"(\d{1,12}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,2})?", re.ASCII)


def micro_dollars(text: str, most: int = MOST_COST) -> int:
    """Dollars as written, in micro-dollars; ValueError unless 0 to `most` with six decimals at the most."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is no amount in dollars, such as 0.003 or 12")
    micro = Fraction(text) * MICRO
    if micro > most:
        raise ValueError(f"{text[:80]} dollars are too many; {dollars_text(most)} is the most")
    if micro.denominator != 1:
        raise ValueError(f"{text[:80]} has more than six decimals")
    return int(micro)


def dollars_text(micro: int) -> str:
    """Micro-dollars in dollars, exactly: `0.003`."""
    whole, rest = divmod(micro, MICRO)
    return f"{whole}.{rest:06}".rstrip("0").rstrip(".")


def dollars(micro: int) -> float:
    """Micro-dollars as the number of dollars that results and statuses carry."""
    return micro / MICRO


def money(amount: float) -> str:
    """Dollars for people: cents, or below a dollar three digits that count: `$12.30`, `$0.0123`."""
    if amount >= 1 or not amount:
        return f"${amount:,.2f}"
    digits = min(2 - math.floor(math.log10(amount)), 6)
    whole, _, rest = f"{amount:.{digits}f}".partition(".")
    return f"${whole}.{rest.rstrip('0'):0<2}"
