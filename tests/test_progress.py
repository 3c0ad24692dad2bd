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


def test_slow_units_have_their_seconds_and_no_time_left_is_made_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    with module.progress("events", 2, "events") as advance:
        for done, note in ((0, "hit 100 of 200"), (1, ""), (0, "hit 50 of 80"), (1, "")):
            clock.now += 6.0
            advance(done, note)
    assert capsys.readouterr().err.splitlines() == [
        "events: 0/2 events, hit 100 of 200",
        "events: 1/2 events, 12 s each, 12 s left",
        "events: 1/2 events, 18 s each, 18 s left, hit 50 of 80",
        "events: 2/2 events, 12 s each, 0 s left",
    ]


def test_short_or_quiet_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        with module.progress("reading", 3, "files", quiet=quiet) as advance:
            advance(3)
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""
