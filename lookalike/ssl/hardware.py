"""What training can make of the machine: the device, the precision it multiplies fast, and the memory it keeps."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from lookalike.errors import InputError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
LARGEST_BLOCK = 32 * 2**20  # bytes; the largest threshold glibc takes, larger blocks are always given back
KEPT = 2**31 - 1  # bytes; the largest number mallopt takes
HALF_SINCE = (7, 0)  # compute capability of the first GPUs with units for products of float16
USUAL = 128 * 1024  # bytes; both thresholds as a process starts
LARGEST_HOLE = 2**30  # bytes; larger holes are taken in several blocks


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
    """`bfloat16` where the device multiplies it faster than float32, else `float16` (of GPUs), else `float32`."""
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bfloat16"
        return "float16" if torch.cuda.get_device_capability(device) >= HALF_SINCE else "float32"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if fast else "float32"


class _Heap:
    """glibc's heap: freed memory kept in it for the next step, and given back for good afterwards.

    What is freed in the middle of the heap stays glibc's: its pages go back to the system, but later blocks are laid
    there again, however large, and their pages then stay. So the holes that are left are taken and never written to,
    which costs no memory, until memory is to be kept again.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self.mallopt, self.trim = library.mallopt, library.malloc_trim
        self.malloc, self.free, self.usage = library.malloc, library.free, library.mallinfo2
        self.malloc.restype, self.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        self.free.restype, self.free.argtypes = None, [ctypes.c_void_p]
        self.usage.restype = _Usage
        self.holes: list[int] = []

    def keep(self) -> None:
        self.mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK)
        self.mallopt(M_TRIM_THRESHOLD, KEPT)
        while self.holes:
            self.free(self.holes.pop())

    def give_back(self) -> None:
        self.mallopt(M_MMAP_THRESHOLD, USUAL)
        self.mallopt(M_TRIM_THRESHOLD, USUAL)
        self.trim(0)
        size, free = LARGEST_HOLE, self.usage().fordblks
        while size >= USUAL and free > 0:
            if self._take_hole(size):
                free -= size
            else:
                size //= 2

    def _take_hole(self, size: int) -> bool:
        """Take `size` bytes if a hole holds them: a block that fits in none is mapped by itself, and counted so."""
        mapped = self.usage().hblks
        block = self.malloc(size)
        if block is None:
            return False
        if self.usage().hblks > mapped:
            self.free(block)
            return False
        self.holes.append(block)
        return True


class _Usage(ctypes.Structure):
    """glibc's `struct mallinfo2`, in bytes; `hblks` counts the blocks mapped by themselves, `fordblks` what is free."""

    _fields_ = (
        ("blocks", ctypes.c_size_t * 3),
        ("hblks", ctypes.c_size_t),
        ("sizes", ctypes.c_size_t * 4),
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    )
    hblks: int
    fordblks: int


@cache
def _heap() -> _Heap | None:
    """The heap of this process, None where its C library is not a glibc from 2.33 on."""
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return _Heap(library) if library is not None and hasattr(library, "mallinfo2") else None


@contextmanager
def kept_memory() -> Iterator[None]:
    """Have the process keep freed memory for its next step, where the C library is glibc, and give it back at the end.

    By default it gives every large block back to the system at once, which has to clear its pages again at each step:
    a third of a training step of ResNet-18 on small pictures.
    """
    heap = _heap()
    if heap is None:
        yield
        return
    heap.keep()
    try:
        yield
    finally:
        heap.give_back()
