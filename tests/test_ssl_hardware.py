"""Device, precision and memory: what a machine has is used, what it lacks is said."""

from __future__ import annotations

import pytest
import torch

from lookalike.errors import InputError
from lookalike.ssl.hardware import fast_precision, keep_memory, pick_device


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


def test_keeping_memory_can_be_asked_for_twice() -> None:
    keep_memory()
    keep_memory()
    assert torch.ones(10_000_000).sum() == 10_000_000
