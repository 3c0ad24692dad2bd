"""The record of a training run: one JSON line per step, and TensorBoard where it is installed."""

from __future__ import annotations

import json
import os
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lookalike.files import atomic_path, sync

LOG, BOARD = "log.jsonl", "tensorboard"


class StepLog:
    """Appends one line per step to `log.jsonl` in the checkpoint folder, and to TensorBoard's events in `tensorboard`.

    The folder is replaced at each checkpoint, which carries the same files into the new one by hard links: call
    `flush` before and `reopen` after.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self._folder = folder
        self._file = (folder / LOG).open("a", encoding="utf-8")
        self._board = _tensorboard(folder / BOARD, first_step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()

    def write(self, values: dict[str, float | int]) -> None:
        """One step; `step` and `epoch` are among the values."""
        self._file.write(json.dumps(values, allow_nan=False) + "\n")
        self._file.flush()
        if self._board is not None:
            for name in values.keys() - {"step", "epoch"}:
                self._board.add_scalar(name, values[name], int(values["step"]))

    def flush(self) -> None:
        """Bring every line, and every event, onto the disk."""
        self._file.flush()
        sync(self._folder / LOG)
        if self._board is not None:
            self._board.flush()

    def reopen(self) -> None:
        """Go on in the replaced folder; where its files had to be copied, those that are open lie in the old one."""
        if os.path.samestat(os.fstat(self._file.fileno()), (self._folder / LOG).stat()):
            return
        self._file.close()
        self._file = (self._folder / LOG).open("a", encoding="utf-8")
        if self._board is not None:
            self._board.close()  # the next event opens another file, in the new folder


def truncate_log(folder: Path, steps: int) -> None:
    """Drop the lines after the first `steps` steps, and a line cut short by a kill, so that no step is logged twice."""
    log = folder / LOG
    kept = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []:
        try:
            if json.loads(line)["step"] > steps:
                break
        except (ValueError, KeyError, TypeError):
            break
        kept.append(line + "\n")
    with atomic_path(log) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The logged steps in order."""
    with (folder / LOG).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def last_steps(folder: Path, count: int) -> list[dict[str, Any]]:
    """The last `count` logged steps."""
    with (folder / LOG).open(encoding="utf-8") as file:
        return [json.loads(line) for line in deque(file, maxlen=count)]


def _tensorboard(folder: Path, first_step: int) -> Any:
    """A TensorBoard writer that hides what an interrupted run wrote after `first_step`, or None if not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first_step + 1)
