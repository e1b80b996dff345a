from __future__ import annotations

import pytest

from jobs.cli.shell.browser import has_browser, is_wsl


@pytest.mark.parametrize(
    ("environment", "system", "expected"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"DISPLAY": "localhost:10.0", "SSH_CONNECTION": "1 2 3 4"}, "linux", False),
        ({"SSH_TTY": "/dev/pts/0"}, "darwin", False),
        ({"SSH_TTY": "/dev/pts/0", "BROWSER": "w3m"}, "linux", True),
        ({}, "darwin", True),
    ],
)
def test_a_browser_is_opened_where_the_person_sits(environment: dict[str, str], system: str, expected: object) -> None:
    assert has_browser(environment, system) is expected


@pytest.mark.parametrize(
    ("environment", "release", "expected"),
    [
        ({"WSL_DISTRO_NAME": "Ubuntu"}, "6.1", True),
        ({}, "5.15.90.1-microsoft-standard-WSL2", True),
        ({}, "6.1.0-18-amd64", False),
    ],
)
def test_linux_in_windows_is_known(environment: dict[str, str], release: str, expected: object) -> None:
    assert is_wsl(environment, release) is expected
