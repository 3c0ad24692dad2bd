"""`lookalike demo` as a newcomer runs it, with one epoch: report, reuse, serving, and leaving no process behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from lookalike.probes.release import release
from lookalike.provenance import read_record, write_record
from lookalike.samples import Samples
from lookalike.samples_writer import write_samples
from lookalike.ssl import released
from lookalike.ssl.checkpoint import read_config
from lookalike.ssl.train import TrainConfig, train

Run = Callable[..., subprocess.CompletedProcess[str]]
STAGES = ["ingest", "train", "embed", "index", "score"]
FEW = 320  # more than the demo's queue holds


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("demo") / "out"
    command = [sys.executable, "-m", "lookalike", "demo", "--no-serve", "--epochs", "1", "--out", str(out)]
    return out, subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def test_the_report_says_what_came_out(made: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, done = made
    assert done.returncode == 0, done.stderr
    objects = int(re.search(r"([\d,]+) galaxies", done.stdout)[1].replace(",", ""))  # type: ignore[index]
    assert objects >= 1000
    for line in ("trained encoder", "untrained encoder", "raw pixels", "radial profile + color histogram"):
        assert re.search(rf"{re.escape(line)}( +[01]\.\d{{3}} \([01]\.\d{{3}}–[01]\.\d{{3}}\)){{2}}", done.stdout)
    for stage in [*STAGES, "verify"]:
        assert re.search(rf"{stage} +[\d.]+ s", done.stdout)
    for path in re.findall(r"^  \w+ +(/\S+)$", done.stdout, re.MULTILINE):
        assert Path(path).exists()
    assert "more than 25% are left out" in done.stdout
    assert "seed 0" in done.stderr
    scores = json.loads((out / "scores.json").read_text())["self_retrieval_at_1"]
    assert {score["all"]["n"] for score in scores.values()} == {
        int(re.search(r"([\d,]+) galaxies", done.stdout)[1].replace(",", ""))
    }  # type: ignore[index]


@pytest.fixture
def few(made: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> Path:
    """A demo's folder with samples alone, as ingesting leaves them, of some of the galaxies."""
    every = Samples(made[0] / "samples.h5")
    out, rows = tmp_path / "demo", np.arange(FEW)
    out.mkdir()
    catalog = {name: every.column(name)[rows] for name in every.columns}
    with write_samples(out / "samples.h5", every.about, every.columns) as writer:
        writer.append(every.ids[rows].astype(str), every.objects(rows), catalog)
    record = read_record(every.paths[0])
    assert record is not None
    write_record(out / "samples.h5", record | {"content_hash": Samples(out / "samples.h5").content_hash})
    return out


def reused(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [stage for stage in STAGES if f"{stage}: still valid, reused" in done.stderr]


def test_a_second_run_reuses_what_is_valid_and_remakes_what_is_not(few: Path, command: Run) -> None:
    options = ("demo", "--no-serve", "--epochs", "1", "--out", few)
    first = command(*options)
    assert reused(first) == ["ingest"]
    again = command(*options)
    assert reused(again) == STAGES
    said = [re.findall(r"(?:encoder|pixels|histogram) .*–.*", done.stdout) for done in (first, again)]
    assert len(said[0]) == 4
    assert said[0] == said[1]
    with (few / "embeddings.h5").open("r+b") as file:  # damage one output: it and what follows from it
        file.seek(-100, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    assert reused(command(*options)) == ["ingest", "train", "index", "score"]  # the same embeddings came out again
    (few / "neighbors.png").write_bytes(b"another picture")
    assert reused(command(*options)) == STAGES[:-1]
    scores = json.loads((few / "scores.json").read_text())
    scores["self_retrieval_at_1"]["trained encoder"]["all"]["hits"] = FEW
    (few / "scores.json").write_text(json.dumps(scores))
    assert reused(command(*options)) == STAGES[:-1]
    other = command(*options, "--max-overlap", "0.5")
    assert reused(other) == STAGES[:-1]
    assert "more than 50% are left out" in other.stdout


def test_a_released_encoder_takes_the_place_of_training(
    few: Path,
    write_blobs: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Run,
) -> None:
    """One trained on larger views of pictures without a unit: the same report, which says what was fitted."""
    train_settings = TrainConfig.checked({"encoder": "resnet10", "epochs": 1, "batch_size": 8, "queue": 8})
    train([write_blobs(tmp_path, n=16, size=72)], tmp_path / "blobs", train_settings, quiet=True)
    release(tmp_path / "blobs", tmp_path / "released" / "drawn", data="drawn for the tests", license="CC0-1.0")
    monkeypatch.setattr(released, "places", lambda: [tmp_path / "released"])
    for valid in (False, True):
        done = command("demo", "--pretrained", "--no-serve", "--out", few)
        assert done.returncode == 0, done.stderr
        assert "Encoder drawn, released: resnet10, trained on 16 objects of other data with views of" in done.stdout
        assert "seeing 32 px here" in done.stdout
        assert re.search(r"trained encoder( +[01]\.\d{3} \([01]\.\d{3}–[01]\.\d{3}\)){2}", done.stdout)
        assert ("pretrained: still valid, reused" in done.stderr) is valid
        assert ("pretrained: drawn was trained on views of" in done.stderr) is not valid
    assert read_config(few / "checkpoints" / "drawn").train["adapted"]["from"] == "drawn"
    refused = command("demo", "--pretrained", "--epochs", "3", "--out", few)
    assert refused.returncode == 2
    assert "--pretrained trains nothing, so it goes without --epochs (3)" in refused.stderr


def test_a_taken_port_is_named(lookalike: Run, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for option in ("--port", "--app-port"):
            done = lookalike("demo", "--out", tmp_path / "demo", option, port)
            assert done.returncode == 2
            assert f"{port}" in done.stderr
            assert "Traceback" not in done.stderr
    assert not (tmp_path / "demo").exists()


def children_of(pid: int) -> set[int]:
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            continue
        if parent == pid:
            found |= {int(entry.name)} | children_of(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        return (Path(f"/proc/{pid}/stat")).read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the process table of Linux")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ending_it_leaves_no_process(
    made: tuple[Path, subprocess.CompletedProcess[str]],
    number: signal.Signals,
    tmp_path: Path,
    free_port: Callable[[], int],
) -> None:
    out, _ = made
    port, app_port = free_port(), free_port()
    command = [sys.executable, "-m", "lookalike", "demo", "--epochs", "1", "--out", str(out)]
    command += ["--port", str(port), "--app-port", str(app_port)]
    said = tmp_path / "said"
    with said.open("w") as log, subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as demo:
        try:
            deadline = time.monotonic() + 240
            while "Ctrl-C stops both." not in said.read_text():
                assert demo.poll() is None, said.read_text()
                assert time.monotonic() < deadline, said.read_text()
                time.sleep(0.1)
            assert all(f"{stage}: still valid, reused" in said.read_text() for stage in STAGES)
            with httpx.Client(trust_env=False, timeout=20) as client:
                assert client.get(f"http://127.0.0.1:{port}/v1/index").status_code == 200
                assert client.get(f"http://127.0.0.1:{app_port}/").status_code == 200
            started = children_of(demo.pid)
            assert len(started) >= 2
            demo.send_signal(number)
            demo.wait(timeout=30)
        finally:
            demo.kill()
    assert demo.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in started) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in started if alive(pid)]


@pytest.mark.long
def test_the_trained_encoder_beats_what_it_is_shown_beside(lookalike: Run, tmp_path: Path) -> None:
    done = lookalike("demo", "--no-serve", "--out", tmp_path / "demo", timeout=1800)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    scores = json.loads((tmp_path / "demo" / "scores.json").read_text())["self_retrieval_at_1"]
    trained = scores.pop("trained encoder")
    for which in ("all", "brighter third"):  # 95 % intervals apart
        assert trained[which]["low"] > max(score[which]["high"] for score in scores.values())
