"""Progress goes to standard error: plain lines when it is no terminal, nothing for short work."""

from __future__ import annotations

import pytest

from lookalike import progress as module


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_plain_lines_have_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    with module.progress("training", 100, "objects") as advance:
        for _ in range(10):
            clock.now += 2.0
            advance(10, "loss 1.0")
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert lines[0] == "training: 30/100 objects, 5/s, 14 s left, loss 1.0"
    assert lines[-1] == "training: 100/100 objects, 5/s, 0 s left, loss 1.0"
    assert len(lines) == 4


def test_short_or_quiet_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        with module.progress("reading", 3, "files", quiet=quiet) as advance:
            advance(3)
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""
