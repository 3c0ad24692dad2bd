"""Several processes train as one: the parts of a batch put together, and whole runs under torchrun."""

from __future__ import annotations

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
from safetensors.torch import load_file

from lookalike.errors import InputError
from lookalike.samples import Samples
from lookalike.ssl import batches
from lookalike.ssl import train as train_module
from lookalike.ssl.batches import Batches
from lookalike.ssl.checkpoint import load_encoder
from lookalike.ssl.encoders import Encoder, EncoderConfig
from lookalike.ssl.log import read_log
from lookalike.ssl.moco import MoCo
from lookalike.ssl.plan import make_plan
from lookalike.ssl.train import TrainConfig, train
from lookalike.ssl.world import ALONE, World, join

pytestmark = pytest.mark.usefixtures("one_thread")

Write = Callable[..., Path]
CPU = torch.device("cpu")
SETTINGS = {"epochs": 3, "batch_size": 16, "small_stem": False, "precision": "float32"}
# Batch norm over 8 objects of 1 px amplifies rounding a thousandfold within three steps (one process on two threads
# parts as far from itself on one). Frozen statistics show whether the processes compute the same.
FROZEN = """
import sys
import torch.nn.functional as F
from lookalike.ssl.layers import SubBatchNorm2d

def frozen(self, x):
    return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)

SubBatchNorm2d.forward = frozen
sys.argv[1:1] = ["train"]
from lookalike.cli import main
main()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Agents:
    """torchrun agents that a test starts, and that end with it."""

    def __init__(self, folder: Path) -> None:
        self.frozen = folder / "frozen.py"
        self.frozen.write_text(FROZEN)
        self.port = free_port()
        self.started: list[subprocess.Popen[str]] = []

    def start(
        self, *arguments: object, options: tuple[str, ...] = ("--nproc-per-node=2",), program: tuple[str, ...] = ()
    ) -> subprocess.Popen[str]:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        agent = subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--rdzv-backend=c10d", "--rdzv-id=test"),
                *(f"--rdzv-endpoint=127.0.0.1:{self.port}", "--local-addr=127.0.0.1", *options),
                *(program or (str(self.frozen),)),
                *self._options(arguments),
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

    def alone(self, *arguments: object) -> None:
        """The same by one process without torchrun."""
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(self.frozen), *self._options(arguments)]
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)

    def _options(self, arguments: tuple[object, ...]) -> list[str]:
        settings = [f"--set={name}={value}" for name, value in SETTINGS.items() if name != "epochs"]
        # An option stands before --set, and the last one given counts.
        epochs = [] if "--epochs" in arguments else ["--epochs", str(SETTINGS["epochs"])]
        return [
            *(a for a in settings if "batch_size" not in a or "--batch-size" not in arguments),
            *epochs,
            *map(str, arguments),
        ]

    def close(self) -> None:
        for agent in self.started:
            lose(agent)
            agent.communicate()


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


@pytest.mark.parametrize("options", [(16,), (17,), (16, "--set=augment.foreground.enabled=true")], ids=str)
def test_two_processes_train_as_one(
    blob_samples: Write, tmp_path: Path, agents: Agents, options: tuple[object, ...]
) -> None:
    """The same batches, even where they do not divide evenly: queue, losses and weights of one process."""
    command = (blob_samples(n=70), "--batch-size", *options, "--out")
    agents.alone(*command, tmp_path / "one")
    two = agents.start(*command, tmp_path / "two")
    said, _ = two.communicate(timeout=180)
    assert two.returncode == 0, said
    assert len(re.findall(r"^Trained 12 steps", said, re.MULTILINE)) == 1  # one process speaks
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=0, atol=1e-5)
    state = [load_file(tmp_path / name / "state.safetensors") for name in ("one", "two")]
    assert torch.equal(state[0]["queue_ptr"], state[1]["queue_ptr"])
    torch.testing.assert_close(state[1]["queue"], state[0]["queue"], rtol=0, atol=1e-5)
    weights = [load_encoder(tmp_path / name)[0].state_dict() for name in ("one", "two")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_two_processes_normalize_and_shuffle_as_one(blob_samples: Write, tmp_path: Path, agents: Agents) -> None:
    """With live batch norm, for as many steps as rounding is not amplified: losses, queue, running statistics."""
    data, settings = blob_samples(n=35), SETTINGS | {"epochs": 1}
    train([data], tmp_path / "one", TrainConfig.checked(settings), quiet=True)
    program = ("-m", "lookalike.ssl.train")
    two = agents.start(data, "--out", tmp_path / "two", "--epochs", 1, program=program)
    said, _ = two.communicate(timeout=180)
    assert two.returncode == 0, said
    assert len(losses(tmp_path / "one")) == 2
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=0, atol=1e-5)
    state = [load_file(tmp_path / name / "state.safetensors") for name in ("one", "two")]
    torch.testing.assert_close(state[1]["queue"], state[0]["queue"], rtol=0, atol=1e-4)
    assert not torch.equal(state[0]["queue"], MoCo(Encoder(EncoderConfig()), K=state[0]["queue"].shape[1]).queue)
    weights = [load_encoder(tmp_path / name)[0].state_dict() for name in ("one", "two")]
    for name in weights[0]:
        if "running" in name:
            torch.testing.assert_close(weights[1][name], weights[0][name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_cluster_that_takes_the_place_back_is_obeyed(
    blob_samples: Write, tmp_path: Path, agents: Agents, number: signal.Signals
) -> None:
    data, out = blob_samples(n=70), tmp_path / "out"
    run = agents.start(data, "--out", out, "--resume")
    wait_for_steps(out, 2, run)
    if number == signal.SIGUSR1:  # to the workers: torchrun itself does not handle it
        for worker in children(run.pid):
            os.kill(worker, number)
    else:  # to all, as Slurm does; torchrun passes its own on, so that the workers have it twice
        for pid in (*children(run.pid), run.pid):
            os.kill(pid, number)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == (0 if number == signal.SIGUSR1 else 1), said  # torchrun ends with 1 when it is told to end
    assert said.count("Stopped and saved") == 1
    assert re.search(r"Stopped and saved after \d+ of 12 steps; the same command with --resume goes on", said)
    stopped = len(losses(out))
    assert stopped < 12
    again = agents.start(data, "--out", out, "--resume")
    said, _ = again.communicate(timeout=120)
    assert again.returncode == 0, said
    agents.alone(data, "--out", tmp_path / "whole")
    np.testing.assert_allclose(losses(out), losses(tmp_path / "whole"), rtol=0, atol=1e-5)


def test_of_two_agents_one_is_killed_and_both_restarted_go_on_from_the_checkpoint(
    blob_samples: Write, tmp_path: Path, agents: Agents
) -> None:
    command = (blob_samples(n=70), "--out", tmp_path / "out", "--epochs", 6, "--resume")
    before = [agents.start(*command, options=options) for options in agents.two_machines()]
    wait_for_steps(tmp_path / "out", 5, before[0])
    lose(before[1])
    before[0].communicate(timeout=120)
    assert before[0].returncode != 0  # it says so rather than wait for the other
    after = [agents.start(*command, options=options) for options in agents.two_machines()]
    outcomes = [agent.communicate(timeout=180)[0] for agent in after]
    assert [agent.returncode for agent in after] == [0, 0], "\n".join(outcomes)
    agents.alone(*command[:2], tmp_path / "whole", *command[3:])
    assert len(losses(tmp_path / "whole")) == 24
    np.testing.assert_allclose(
        losses(tmp_path / "out"), losses(tmp_path / "whole"), rtol=0, atol=1e-3
    )  # rounding grows


def test_an_error_of_the_first_process_is_everyones(blob_samples: Write, tmp_path: Path, agents: Agents) -> None:
    data, out = blob_samples(n=70), tmp_path / "out"
    out.mkdir()
    (out / "something").touch()
    run = agents.start(data, "--out", out)
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
