"""Device, precision and memory: what a machine has is used, what it lacks is said."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from lookalike.errors import InputError
from lookalike.ssl.hardware import fast_precision, pick_device


def test_unknown_device_is_an_error() -> None:
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="A device is auto, cpu"):
        pick_device("tpux")


@pytest.mark.parametrize(("avx512", "amx", "precision"), [(0, 0, "float32"), (1, 0, "bfloat16"), (0, 1, "bfloat16")])
def test_precision_follows_what_the_processor_multiplies_fast(
    monkeypatch: pytest.MonkeyPatch, avx512: int, amx: int, precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bool(avx512))
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: bool(amx))
    assert fast_precision(torch.device("cpu")) == precision


RESIDENT = """
import sys, torch
from lookalike.ssl.hardware import kept_memory

def resident():  # without pages of files, which the system drops and fetches back as it likes
    pages = open("/proc/self/statm").read().split()
    return (int(pages[1]) - int(pages[2])) * 4096

lasting = []

def work():  # blocks small enough for the kept heap, 240 MB together
    blocks = [torch.ones(5_000_000) for _ in range(12)]
    if "hole" in sys.argv:  # as weights or a thread's own data do, which outlive the step
        lasting.append(torch.ones(10_000))

before = resident()
for _ in range(3):
    with kept_memory():
        work()
        kept = resident() - before
    given_back = resident() - before
    work()
    print(kept, given_back, resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("below_what_lasts", [(), ("hole",)])
def test_memory_is_kept_between_steps_and_given_back_at_the_end(below_what_lasts: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", RESIDENT, *below_what_lasts]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rounds = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(rounds) == 3
    for kept, given_back, usual in rounds:
        assert kept > 200e6
        assert given_back < 60e6
        assert usual < 60e6
