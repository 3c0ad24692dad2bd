"""What training can make of the machine: the device, the precision it multiplies fast, and the memory it keeps."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lookalike.errors import InputError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
LARGEST_BLOCK = 32 * 2**20  # bytes; the largest threshold glibc takes, larger blocks are always given back
KEPT = 2**31 - 1  # bytes; the largest number mallopt takes
USUAL = 128 * 1024  # bytes; both thresholds as a process starts


def pick_device(name: str) -> torch.device:
    """The torch device of that name; "auto" is CUDA if there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"A device is auto, cpu, cuda or cuda:N, but {name!r} was given.") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"Device {name!r} was asked for, but there is no usable CUDA device here.")
    return device


def fast_precision(device: torch.device) -> str:
    """`bfloat16` where the device multiplies it faster than float32, else `float32`."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if fast else "float32"


@contextmanager
def kept_memory() -> Iterator[None]:
    """Have the process keep freed memory for its next step, where the C library is glibc, and give it back at the end.

    By default it gives every large block back to the system at once, which has to clear its pages again at each step:
    a third of a training step of ResNet-18 on small pictures.
    """
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    mallopt, trim = getattr(library, "mallopt", None), getattr(library, "malloc_trim", None)
    if mallopt is None or trim is None:
        yield
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK)
    mallopt(M_TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        mallopt(M_MMAP_THRESHOLD, USUAL)
        mallopt(M_TRIM_THRESHOLD, USUAL)
        trim(0)
