"""`python -m worker`: what talks to Replicate without a batch."""

from __future__ import annotations

from worker.cli import main

if __name__ == "__main__":
    main()
