"""Fixtures several test files share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data some tests use; they skip where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data sets are not beside this checkout")
    return folder


@pytest.fixture
def lookalike() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in a process of its own: lookalike("info", path) → return code, stdout, stderr."""

    def run(*arguments: object, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lookalike", *map(str, arguments)]
        env = os.environ | environment
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env, check=False)

    return run
