"""What a fresh Python has loaded after some imports: tests ask often, and each start takes a second."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent


@cache
def loaded_by(statement: str) -> frozenset[str]:
    """The names of all modules that Python has loaded after the statement, and those of their packages."""
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return frozenset(done.stdout.split())
