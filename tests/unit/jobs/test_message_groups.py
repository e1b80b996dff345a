from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.message_groups import LONGEST, message_group


@pytest.mark.parametrize(
    ("one", "other", "group"),
    [
        ("CUDA out of memory: 3.2 GiB", "CUDA out of memory: 17 GiB", "CUDA out of memory: N GiB"),
        ("no file at https://a.b/c.png", "no file at http://x.y/1?z=2", "no file at …"),
        ("cannot open /tmp/src/a.png", "cannot open /var/b/c d", "cannot open …"),
        ("bad value 'cat' for \"size\"", "bad value 'dog' for \"mode\"", "bad value … for …"),
        ("prediction 4k2ab3xyzrj40cjt9h lost", "prediction 9zzz1rrj8hrmc0cjt9 lost", "prediction … lost"),
        ("one\n\ttwo", "one\nthree", "one"),
        ("  \nKeyError", "KeyError", "KeyError"),
    ],
)
def test_messages_of_one_kind_are_one(one: str, other: str, group: str) -> None:
    assert message_group(one) == group
    assert message_group(other).startswith(group)


def test_what_differs_stays_apart() -> None:
    assert message_group("CUDA out of memory") != message_group("NSFW content detected")
    assert message_group("") == ""


@given(st.text())
def test_any_text_has_a_short_group_of_its_own(text: str) -> None:
    group = message_group(text)
    assert len(group) <= LONGEST
    assert "\n" not in group
