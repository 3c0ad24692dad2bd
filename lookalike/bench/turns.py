"""Turns of contenders within one run, each begun when the one before has come to rest."""

from __future__ import annotations

import time

REST = 0.25  # seconds: threads of BLAS and OpenMP wait for more work by spinning for a while, on others' processors


def rest() -> None:
    """Wait until the threads of the contender before sleep."""
    time.sleep(REST)
