"""Several processes train as one: the parts of a batch put together, and whole runs under torchrun."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from lookalike.errors import InputError
from lookalike.samples import Samples
from lookalike.ssl import batches
from lookalike.ssl import train as train_module
from lookalike.ssl.batches import Batches
from lookalike.ssl.checkpoint import load_encoder
from lookalike.ssl.encoders import Encoder, EncoderConfig
from lookalike.ssl.layers import SubBatchNorm2d
from lookalike.ssl.log import read_log
from lookalike.ssl.moco import MoCo
from lookalike.ssl.plan import make_plan
from lookalike.ssl.train import TrainConfig, train
from lookalike.ssl.world import ALONE, World, join

pytestmark = pytest.mark.usefixtures("one_thread")

Write = Callable[..., Path]
CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "encoder": "resnet10", "epochs": 3, "batch_size": 16, "small_stem": False, "precision": "float32",
}  # fmt: skip


def frozen(self: Any, x: torch.Tensor) -> torch.Tensor:
    """Batch norm by frozen statistics, which show whether processes compute the same.

    Over 8 objects of 1 px live ones amplify rounding a thousandfold within three steps (one process on two threads
    parts as far from itself on one).
    """
    return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


# What each process runs: `-m lookalike.ssl.train`, once for each [port, frozen, arguments] that the JSON tells, so that
# several trainings share the imports. The first meets where torchrun says, each other one at a port of its own.
PROGRAM = f"""
from __future__ import annotations
import json, os, runpy, sys
from typing import Any
import torch
import torch.nn.functional as F
from lookalike.ssl.layers import SubBatchNorm2d

{inspect.getsource(frozen)}
live = SubBatchNorm2d.forward
runs = json.loads(sys.argv[1])
for number, (port, freeze, arguments) in enumerate(runs):
    if number:
        os.environ |= {{"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}}
    SubBatchNorm2d.forward = frozen if freeze else live
    sys.argv[1:] = arguments
    try:
        runpy.run_module("lookalike.ssl.train", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if ended.code or number == len(runs) - 1:
            raise
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Agents:
    """torchrun agents that a test starts, and that end with it."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "program.py"
        self.program.write_text(PROGRAM)
        self.port = free_port()
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: object, options: tuple[str, ...] = ("--nproc-per-node=2",)) -> subprocess.Popen[str]:
        """Train with frozen statistics; SETTINGS hold where the arguments say nothing else."""
        return self.start_all([(True, arguments)], options=options)

    def start_all(
        self, runs: list[tuple[bool, tuple[object, ...]]], options: tuple[str, ...] = ("--nproc-per-node=2",)
    ) -> subprocess.Popen[str]:
        """Train once for each (whether batch norm is frozen, arguments)."""
        told = json.dumps([(free_port(), freeze, command_line(*arguments)) for freeze, arguments in runs])
        return self.launch(str(self.program), told, options=options)

    def launch(self, *program: str, options: tuple[str, ...] = ("--nproc-per-node=2",)) -> subprocess.Popen[str]:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        agent = subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--rdzv-backend=c10d", "--rdzv-id=test"),
                *(f"--rdzv-endpoint=127.0.0.1:{self.port}", "--local-addr=127.0.0.1", *options, *program),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(agent)
        return agent

    def two_machines(self) -> list[tuple[str, ...]]:
        """The options of two agents, of which the first hosts their meeting point."""
        self.port = free_port()
        return [("--nnodes=2", "--nproc-per-node=1", f"--rdzv-conf=is_host={host}") for host in (1, 0)]

    def close(self) -> None:
        for agent in self.started:
            lose(agent)
            agent.communicate()


def command_line(*arguments: object) -> list[str]:
    """The options of `lookalike train` for SETTINGS, where the arguments name no others."""
    given = [
        part
        for name, value in SETTINGS.items()
        if (option := f"--{name.replace('_', '-')}") not in arguments
        for part in ((option, str(value)) if name in ("epochs", "encoder") else ("--set", f"{name}={value}"))
    ]
    return [*given, *map(str, arguments)]


def alone(data: Path, out: Path, **settings: Any) -> None:
    """The same with frozen statistics by this process, without torchrun."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SubBatchNorm2d, "forward", frozen)
        train([data], out, TrainConfig.checked(SETTINGS | settings), quiet=True)


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    made = Agents(tmp_path)
    yield made
    made.close()


def children(pid: int) -> list[int]:
    """The processes that a process started, by Linux's own record."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lose(agent: subprocess.Popen[str]) -> None:
    """What the loss of a machine is: agent and workers, which have sessions of their own, are gone at once."""
    if agent.poll() is None:
        for pid in (agent.pid, *children(agent.pid)):
            os.kill(pid, signal.SIGKILL)
        agent.wait()


def losses(out: Path) -> list[float]:
    steps = read_log(out)
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    return [step["loss"] for step in steps]


def wait_for_steps(out: Path, count: int, agent: subprocess.Popen[str]) -> None:
    log = out / "log.jsonl"
    end = time.monotonic() + 120
    while not log.exists() or log.read_text().count("\n") < count:
        assert agent.poll() is None, agent.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.02)


FOREGROUND = {"augment": {"foreground": {"enabled": True}}}
TOGETHER: dict[str, tuple[tuple[object, ...], dict[str, Any]]] = {  # options of the command, and the same as settings
    "16": ((), {}),
    "17": (("--batch-size", 17), {"batch_size": 17}),
    "foreground": (("--set", "augment.foreground.enabled=true"), FOREGROUND),
}


@pytest.fixture(scope="module")
def trained_by_two(write_blobs: Write, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with blobs.h5, few.h5 and what two processes trained on them, and all that these said.

    For each of TOGETHER a checkpoint of that name, with frozen statistics; and `live`, of few.h5, with live ones.
    """
    folder = tmp_path_factory.mktemp("world")
    data, few = write_blobs(folder, "blobs.h5", n=70), write_blobs(folder, "few.h5", n=35)
    runs = [(True, (data, "--out", folder / name, *options)) for name, (options, _) in TOGETHER.items()]
    agents = Agents(folder)
    try:
        two = agents.start_all([*runs, (False, (few, "--out", folder / "live", "--epochs", 1))])
        said, _ = two.communicate(timeout=240)
    finally:
        agents.close()
    assert two.returncode == 0, said
    return folder, said


def test_of_two_processes_one_speaks(trained_by_two: tuple[Path, str]) -> None:
    _, said = trained_by_two
    assert re.findall(r"^Trained (\d+) steps", said, re.MULTILINE) == ["12", "12", "12", "2"]


@pytest.mark.parametrize("name", TOGETHER)
def test_two_processes_train_as_one(trained_by_two: tuple[Path, str], tmp_path: Path, name: str) -> None:
    """The same batches, even where they do not divide evenly: queue, losses and weights of one process."""
    folder, _ = trained_by_two
    alone(folder / "blobs.h5", tmp_path / "one", **TOGETHER[name][1])
    one, two = tmp_path / "one", folder / name
    np.testing.assert_allclose(losses(two), losses(one), rtol=0, atol=1e-5)
    state = [load_file(out / "state.safetensors") for out in (one, two)]
    assert torch.equal(state[0]["queue_ptr"], state[1]["queue_ptr"])
    torch.testing.assert_close(state[1]["queue"], state[0]["queue"], rtol=0, atol=1e-5)
    weights = [load_encoder(out)[0].state_dict() for out in (one, two)]
    for tensor_name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][tensor_name], tensor, rtol=1e-4, atol=1e-5, msg=tensor_name)


def test_two_processes_normalize_and_shuffle_as_one(trained_by_two: tuple[Path, str], tmp_path: Path) -> None:
    """With live batch norm, for as many steps as rounding is not amplified: losses, queue, running statistics."""
    folder, _ = trained_by_two
    one, two = tmp_path / "one", folder / "live"
    train([folder / "few.h5"], one, TrainConfig.checked(SETTINGS | {"epochs": 1}), quiet=True)
    assert len(losses(one)) == 2
    np.testing.assert_allclose(losses(two), losses(one), rtol=0, atol=1e-5)
    state = [load_file(out / "state.safetensors") for out in (one, two)]
    torch.testing.assert_close(state[1]["queue"], state[0]["queue"], rtol=0, atol=1e-4)
    start = MoCo(Encoder(EncoderConfig(name="resnet10")), K=state[0]["queue"].shape[1]).queue
    assert not torch.equal(state[0]["queue"], start)
    weights = [load_encoder(out)[0].state_dict() for out in (one, two)]
    for name in weights[0]:
        if "running" in name:
            torch.testing.assert_close(weights[1][name], weights[0][name], rtol=1e-3, atol=1e-4, msg=name)


def test_a_cluster_that_takes_the_place_back_is_obeyed(blob_samples: Write, tmp_path: Path, agents: Agents) -> None:
    """One run is ended by SIGUSR1, gone on with, ended by SIGTERM, and gone on with to its end."""
    data, out = blob_samples(n=70), tmp_path / "out"
    stopped = 0
    for number in (signal.SIGUSR1, signal.SIGTERM):
        run = agents.start(data, "--out", out, "--epochs", 10, "--resume")
        wait_for_steps(out, stopped + 2, run)
        if number == signal.SIGUSR1:  # to the workers: torchrun itself does not handle it
            for worker in children(run.pid):
                os.kill(worker, number)
        else:  # to all, as Slurm does; torchrun passes its own on, so that the workers have it twice
            for pid in (*children(run.pid), run.pid):
                os.kill(pid, number)
        said, _ = run.communicate(timeout=60)
        assert run.returncode == (0 if number == signal.SIGUSR1 else 1), said  # torchrun ends with 1 when told to end
        assert said.count("Stopped and saved") == 1
        assert re.search(r"Stopped and saved after \d+ of 40 steps; the same command with --resume goes on", said)
        assert stopped < len(losses(out)) < 40
        stopped = len(losses(out))
    again = agents.start(data, "--out", out, "--epochs", 10, "--resume")
    said, _ = again.communicate(timeout=120)
    assert again.returncode == 0, said
    alone(data, tmp_path / "whole", epochs=10)
    assert len(losses(tmp_path / "whole")) == 40
    np.testing.assert_allclose(losses(out), losses(tmp_path / "whole"), rtol=0, atol=1e-5)


def test_of_two_agents_one_is_killed_and_both_restarted_go_on_from_the_checkpoint(
    blob_samples: Write, tmp_path: Path, agents: Agents
) -> None:
    data = blob_samples(n=70)
    command = (data, "--out", tmp_path / "out", "--epochs", 6, "--resume")
    before = [agents.start(*command, options=options) for options in agents.two_machines()]
    wait_for_steps(tmp_path / "out", 5, before[0])
    lose(before[1])
    before[0].communicate(timeout=120)
    assert before[0].returncode != 0  # it says so rather than wait for the other
    after = [agents.start(*command, options=options) for options in agents.two_machines()]
    outcomes = [agent.communicate(timeout=180)[0] for agent in after]
    assert [agent.returncode for agent in after] == [0, 0], "\n".join(outcomes)
    alone(data, tmp_path / "whole", epochs=6)
    assert len(losses(tmp_path / "whole")) == 24
    np.testing.assert_allclose(
        losses(tmp_path / "out"), losses(tmp_path / "whole"), rtol=0, atol=1e-3
    )  # rounding grows


def test_an_error_of_the_first_process_is_everyones(blob_samples: Write, tmp_path: Path, agents: Agents) -> None:
    data, out = blob_samples(n=70), tmp_path / "out"
    out.mkdir()
    (out / "something").touch()
    run = agents.launch("-m", "lookalike.ssl.train", *command_line(data, "--out", out))
    said, _ = run.communicate(timeout=120)
    assert run.returncode != 0
    assert f"{out} exists and is not a checkpoint; choose another --out." in said
    assert "lookalike/ssl/train.py" not in said  # torchrun shows a traceback of its own, never one of ours


def test_parts_of_a_batch_are_all_of_it() -> None:
    for B in (1, 7, 16):
        for size in (1, 2, 3):
            parts = [World(CPU, rank, size).part(B) for rank in range(size)]
            assert np.concatenate([np.arange(B)[part] for part in parts]).tolist() == list(range(B))


def test_alone_nothing_is_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    x = torch.randn(4, 2)
    with join("cpu") as world:
        assert world == ALONE
        assert world.gather(x, 4) is x
        assert world.mean([1.0, 2.5]) == [1.0, 2.5]
        assert world.from_first(lambda: 3) == 3
        world.wait()
        assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("memory", [0, 2**30])
@pytest.mark.parametrize("B", [16, 17])
def test_processes_read_parts_of_the_same_number_of_batches(
    blob_samples: Write, monkeypatch: pytest.MonkeyPatch, memory: int, B: int
) -> None:
    """In memory the parts are those of one process's batch; from pools each reads blocks that no other reads."""
    samples = Samples(blob_samples(n=75))
    monkeypatch.setattr(batches, "BLOCK", 6 * 24 * 24 * 3)
    read = Batches(samples, (), CPU, memory)
    epochs: list[Any] = [list(read.epoch(0, 0, B, world=World(CPU, rank, 2))) for rank in range(2)]
    assert [len(epoch) for epoch in epochs] == [75 // B] * 2
    for one, other in zip(*epochs, strict=True):
        assert len(one.rows) + len(other.rows) == B
        assert not set(one.rows) & set(other.rows)
        assert np.array_equal(one.images.numpy(), samples.objects(one.rows).astype(np.float32))
    if memory:
        joined = [np.concatenate([one.rows, other.rows]).tolist() for one, other in zip(*epochs, strict=True)]
        assert joined == [batch.rows.tolist() for batch in read.epoch(0, 0, B)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "batch_size = 16 over 20 processes|sub_batches = 20"),
        ({"sub_batches": 3}, "sub_batches = 3 over 20 processes"),
    ],
)
def test_what_does_not_divide_among_the_processes_is_refused(
    blob_samples: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, int], said: str
) -> None:
    world = World(CPU, 0, 20)
    monkeypatch.setattr(train_module, "join", lambda device: nullcontext(world))
    monkeypatch.setattr(World, "from_first", lambda self, make: make())
    with pytest.raises(InputError, match=said):
        train([blob_samples(n=70)], tmp_path / "out", TrainConfig.checked(SETTINGS | given), quiet=True)


def test_a_folder_that_not_all_machines_see_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "mean", lambda self, values: [values[0] / 2])  # the other process sees nothing
    (tmp_path / "config.json").touch()
    with pytest.raises(InputError, match="All machines must see the same --out"):
        train_module._refuse_unshared(tmp_path, World(CPU, 0, 2))


def test_one_of_several_without_the_others_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.delenv("MASTER_PORT", raising=False)
    with pytest.raises(InputError, match="MASTER_ADDR, MASTER_PORT is not set; start them with torchrun"), join("cpu"):
        pass


def test_batch_norm_has_a_part_for_every_process(blob_samples: Write) -> None:
    samples = Samples(blob_samples(n=70))
    config = TrainConfig.checked(SETTINGS | {"batch_size": 24})
    parts = [make_plan(samples, config, processes=size).config.sub_batches for size in (1, 2, 3, 4)]
    assert parts == [2, 2, 3, 4]
