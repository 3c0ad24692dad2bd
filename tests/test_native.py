"""Compiled loops: folders nothing can be kept in, files that are broken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_loops_are_compiled_where_nothing_can_be_kept() -> None:
    source = "from lookalike.native import native\n@native\ndef twice(x): return 2 * x\nprint(twice(21))\n"
    # Code that has no file has no folder beside it.
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "42"), done.stderr


def test_what_was_kept_broken_or_cannot_be_kept_is_compiled_again(tmp_path: Path) -> None:
    source = "from lookalike.native import native\n@native\ndef twice(x): return 2 * x\n"
    (tmp_path / "loops.py").write_text(source)
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}

    def run(most: int | None = None, told: str = "42") -> list[Path]:
        """What is kept; files are of so many bytes at most, as where the disk is full."""
        limit = "" if most is None else f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, ({most}, {most})); "
        done = subprocess.run(
            [sys.executable, "-c", f"import loops; {limit}print(loops.twice(21))"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert (done.returncode, done.stdout.strip()) == (0, told), done.stderr
        return sorted(path for path in tmp_path.rglob("*.nb?") if path.stat().st_size)

    assert run(0) == []
    kept = run()
    assert len(kept) == 2
    for path in kept:
        path.write_bytes(b"")
    assert run() == kept
    kept[0].write_bytes(kept[0].read_bytes()[:40])
    assert run() == kept
    (tmp_path / "loops.py").write_text(source.replace("2 *", "3 *"))
    run(2000, "63")  # the index can be kept, the code cannot
    run(None, "63")
