"""Opening a file in the browser of the machine that a person sits at."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path


def has_browser(environment: Mapping[str, str], system: str) -> bool:
    """Whether a browser opens on the screen of the person who types: not over SSH, nor without a display."""
    if environment.get("BROWSER"):
        return True
    if environment.get("SSH_CONNECTION") or environment.get("SSH_TTY"):
        return False
    return system == "darwin" or bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def is_wsl(environment: Mapping[str, str], release: str) -> bool:
    """Whether this is Linux in Windows, whose browser takes paths of Windows."""
    return bool(environment.get("WSL_DISTRO_NAME")) or "microsoft" in release.lower()


def open_in_browser(path: Path) -> bool:
    """Open a file or folder; False when nothing can show it here."""
    environment = {**os.environ}
    if is_wsl(environment, platform.release()) and not environment.get("SSH_CONNECTION"):
        return _open_in_windows(path)
    if not has_browser(environment, sys.platform):
        return False
    return webbrowser.open(path.absolute().as_uri())


def _open_in_windows(path: Path) -> bool:
    """Let Windows open a path of WSL with what it has for such files."""
    explorer, translate = shutil.which("explorer.exe"), shutil.which("wslpath")
    if not explorer or not translate:
        return False
    found = subprocess.run([translate, "-w", path.absolute()], capture_output=True, text=True, check=False)  # noqa: S603 - a part of WSL
    if found.returncode:
        return False
    subprocess.run([explorer, found.stdout.strip()], capture_output=True, check=False)  # noqa: S603 - it always ends with 1
    return True
