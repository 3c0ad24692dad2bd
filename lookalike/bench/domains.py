"""Every domain through the whole pipeline: the commands a user would type, and what the encoder's lists are worth.

A case makes its samples (simulated, or ingested from files), trains, embeds, indexes, serves and evaluates. Each step
is a command of its own process; the commands stand in the report, so that anyone can repeat one alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from lookalike.client import Client
from lookalike.config import Config, read_settings
from lookalike.errors import InputError, LookalikeError, unknown
from lookalike.files import read_json, write_json

SAMPLES, CHECKPOINT, EMBEDDINGS, INDEX, REPORT = "samples.h5", "checkpoint", "embeddings.h5", "index", "report.json"
ASKED = 3  # objects whose lists and thumbnails are fetched from the service
DATA = "{data}"  # stands in a command for the folder of real data

Run = Callable[[Sequence[str], Path], str]


class Case(Config):
    """One data set of a domain.

    title    : what the objects are, for the table.
    samples  : `simulate …` or `ingest …` without --out; DATA stands for the folder of real data.
    train, index, evaluate : options of these commands; `evaluate` holds --label.
    measure  : the score that counts, by its name in the report; the label's own where it is left out.
    """

    title: str
    samples: str
    train: str = ""
    index: str = ""
    evaluate: str
    measure: str | None = None


@dataclass(frozen=True)
class Done:
    """A case that ran. commands : as typed in its folder. seconds : of each stage. report : of `evaluate retrieval`."""

    name: str
    case: Case
    commands: list[str]
    seconds: dict[str, float]
    report: dict[str, Any]


@dataclass(frozen=True)
class Skipped:
    """A case that could not run, and why."""

    name: str
    case: Case
    why: str


def read_cases(path: Path, names: Sequence[str] = ()) -> dict[str, Case]:
    """The cases of a TOML or JSON file, one table each, in its order; of `names` only, where there are any."""
    cases = {name: Case.checked(values, name) for name, values in read_settings(path).items()}
    for name in names:
        if name not in cases:
            raise unknown("case", name, cases)
    if not cases:
        raise InputError(f"{path} holds no case: each is a table with title, samples and evaluate.")
    return {name: case for name, case in cases.items() if not names or name in names}


def run_cases(
    cases: dict[str, Case],
    work: Path,
    data: Path | None,
    *,
    say: Callable[[str], None],
    run: Run | None = None,
) -> list[Done | Skipped]:
    """Run each case in a folder of its own under `work`; one whose report is there, of the same commands, is read.

    data : folder of real data; without it, or where a case's files are not in it, the case is skipped.
    run  : (arguments, folder) -> standard output of a `lookalike` command; by default a process of its own.
    """
    found: list[Done | Skipped] = []
    for name, case in cases.items():
        why = _missing(case, data)
        if why:
            say(f"{name}: skipped, {why}")
            found.append(Skipped(name, case, why))
            continue
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        commands = commands_of(case, data)
        done = _finished(name, case, folder, commands) or _run(name, case, folder, commands, run or process, say)
        found.append(done)
    return found


def commands_of(case: Case, data: Path | None) -> dict[str, list[str]]:
    """The arguments of each stage's `lookalike` command; without a folder of data, with the word DATA in its place."""
    made = [part.replace(DATA, str(data.resolve()) if data else "DATA") for part in shlex.split(case.samples)]
    stages = {
        "samples": [*made, "--out", SAMPLES],
        "train": ["train", SAMPLES, "--out", CHECKPOINT, *shlex.split(case.train)],
        "embed": ["embed", SAMPLES, "--checkpoint", CHECKPOINT, "--out", EMBEDDINGS],
        "index": ["index", EMBEDDINGS, "--samples", SAMPLES, "--checkpoint", CHECKPOINT, "--out", INDEX],
        "evaluate": ["evaluate", "retrieval", SAMPLES, "--checkpoint", CHECKPOINT, "--embeddings", EMBEDDINGS],
    }
    stages["index"] += shlex.split(case.index)
    stages["evaluate"] += [*shlex.split(case.evaluate), "--json"]
    return stages


def _missing(case: Case, data: Path | None) -> str:
    """Why a case cannot run, "" where it can: real files that are not there."""
    named = [part for part in shlex.split(case.samples) if DATA in part]
    if named and data is None:
        return "it needs real files: say where with --data"
    absent = [part for part in named if not Path(part.replace(DATA, str(data))).exists()]
    return f"there is no {absent[0].replace(DATA, str(data))}" if absent else ""


def _finished(name: str, case: Case, folder: Path, commands: dict[str, list[str]]) -> Done | None:
    """The report of an earlier run of the same commands."""
    path = folder / REPORT
    if not path.is_file():
        return None
    kept = read_json(path)
    if kept["key"] != _key(commands):
        return None
    return Done(name, case, kept["commands"], kept["seconds"], kept["report"])


def _key(commands: dict[str, list[str]]) -> str:
    return hashlib.sha256(json.dumps(commands).encode()).hexdigest()


def _run(
    name: str, case: Case, folder: Path, commands: dict[str, list[str]], run: Run, say: Callable[[str], None]
) -> Done:
    seconds: dict[str, float] = {}
    printed = ""
    for stage, arguments in commands.items():
        if stage == "evaluate":  # by then there is an index to serve
            start = time.monotonic()
            check_served(folder / INDEX)
            seconds["serve"] = time.monotonic() - start
        say(f"{name}: {stage}")
        start = time.monotonic()
        overwrite = ["--overwrite"] if stage in ("samples", "embed") else []
        printed = run([*arguments, *overwrite], folder)
        seconds[stage] = time.monotonic() - start
    shown = [f"lookalike {shlex.join(arguments)}" for arguments in commands_of(case, None).values()]
    done = Done(name, case, shown, {stage: round(value, 1) for stage, value in seconds.items()}, json.loads(printed))
    kept = {"key": _key(commands), "commands": shown, "seconds": done.seconds, "report": done.report}
    write_json(folder / REPORT, kept)
    return done


def process(arguments: Sequence[str], folder: Path) -> str:
    """Run `lookalike` with these arguments in a folder, its notes and progress passed on; its standard output."""
    command = [sys.executable, "-m", "lookalike", *arguments]
    ended = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    if ended.returncode:
        raise LookalikeError(
            f"`lookalike {shlex.join(arguments)}` in {folder} ended with exit code {ended.returncode}."
        )
    return ended.stdout


def check_served(index: Path) -> None:
    """Serve an index and its page, and ask both as a visitor does: lists and thumbnails of some objects.

    LookalikeError where an answer is not what an index must give.
    """
    from lookalike.serving import page_of, served

    port, app_port = free_ports(2)
    api = f"http://127.0.0.1:{port}"
    with served(index, port, app_port, 0.25), Client(api) as client:
        for seed in range(ASKED):
            name = client.random(seed=seed).id
            _check_object(client, name)
        said = page_of(api, name)
    if said:
        raise LookalikeError(f"The page of {name} in {index} says: {said}")


def _check_object(client: Client, name: str) -> None:
    """An object's list falls in similarity and leaves itself out, and its thumbnail is a picture of something."""
    found = client.neighbors(name, k=5)
    similarity = [result.similarity for result in found.results]
    if name in [result.id for result in found.results] or similarity != sorted(similarity, reverse=True):
        raise LookalikeError(f"The list of {name} holds itself, or is not in order: {similarity}.")
    low, high = Image.open(io.BytesIO(client.thumbnail(name, size=128))).convert("L").getextrema()
    if low == high:
        raise LookalikeError(f"The thumbnail of {name} is blank.")


def free_ports(count: int) -> list[int]:
    """Ports of this machine that no one listens on."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
