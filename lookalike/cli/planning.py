"""`lookalike plan`."""

from __future__ import annotations

import json as jsonlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lookalike.cli.common import Json, app
from lookalike.sizes import parse_size
from lookalike.wording import counted

if TYPE_CHECKING:
    from lookalike.indexer.planning import Plan


@app.command()
def plan(
    objects: Annotated[int, typer.Option(help="How many objects.")],
    dim: Annotated[int, typer.Option(help="Numbers of a vector.")],
    k: Annotated[int, typer.Option("-k", help="Neighbors stored per object.")] = 999,
    window_fraction: Annotated[float, typer.Option(help="Objects in a window, as a share of all.")] = 1.0,
    dtype: Annotated[str, typer.Option(help="float32 or float16, of the stored vectors.")] = "float32",
    vectors: Annotated[
        Path | None, typer.Option(help="Some embeddings of such objects, to measure with in place of random vectors.")
    ] = None,
    gpus: Annotated[int, typer.Option(help="GPUs to plan for, besides this machine's processors.")] = 0,
    tflops: Annotated[float | None, typer.Option(help="What each computes in float32 at its peak, in TFLOP/s.")] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="Memory the build keeps to, e.g. 64GiB (default: 1 GiB, and 320 B an object)."),
    ] = None,
    measure: Annotated[bool, typer.Option(help="Time small builds on this machine (seconds to a minute).")] = True,
    json: Json = False,
) -> None:
    """Say what an index would take: bytes of its files, products, hours, memory.

    Example: lookalike plan --objects 42272646 --dim 2048 -k 999 --window-fraction 0.15 --gpus 8 --tflops 60
    """
    from lookalike.errors import unknown
    from lookalike.indexer.planning import GPU_SHARE, measure_rates, read_sample
    from lookalike.indexer.planning import plan as estimate

    if dtype not in ("float32", "float16"):
        raise unknown("dtype", dtype, ("float32", "float16"))
    worked_out = partial(
        estimate, objects, dim, k, window_fraction=window_fraction, dtype=dtype, gpus=gpus, tflops=tflops,
        budget=None if memory is None else parse_size(memory),
    )  # fmt: skip
    found = worked_out()
    if measure:
        sample = None if vectors is None else read_sample(vectors, dim)
        found = worked_out(rates=measure_rates(found, vectors=sample, quiet=json))
    if json:
        print(jsonlib.dumps(found.to_json()))
        return
    print(
        f"{counted(found.objects, 'object')} of {found.dimensions} numbers, {found.k:,} neighbors each, windows of "
        f"{counted(found.window_objects, 'object')}"
    )
    print(f"  embeddings      {_bytes(found.embeddings_bytes)}")
    print(f"  neighbors       {_bytes(found.neighbors_bytes)}")
    print(f"  rounded vectors {_bytes(found.rounded_bytes)}, which searches read first")
    print(f"  disk in all     {_bytes(found.disk_bytes)}, with a new version beside the one that is served")
    print(f"  pairs           {found.pairs:.3g}, scored {_times(found)}: {found.flop:.3g} FLOP")
    print(f"  memory          {_bytes(found.memory_bytes_per_process)} for the building process, and what Python takes")
    if found.seconds is not None:
        print(f"  time            {_time(found.seconds)} on this machine (scores: {found.scores})")
    if gpus:
        print(
            f"  on {counted(gpus, 'GPU')}: {found.gpu_flop:.3g} FLOP, {_bytes(found.gpu_bytes_each)} of vectors on each"
        )
        if found.gpu_seconds is None:
            print("  time on GPUs    not known: say what each computes with --tflops")
        else:
            print(
                f"  time on GPUs    {_time(found.gpu_seconds)}, where they reach {GPU_SHARE:.0%} of {tflops:g} TFLOP/s"
            )


def _bytes(number: int) -> str:
    """In the largest unit that leaves a number of at least 1."""
    size, units = float(number), ["B", "kB", "MB", "GB", "TB", "PB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:,.3g} {units[0]}"


def _times(plan: Plan) -> str:
    """How often a pair is scored, and what that takes."""
    if plan.pairs_scored == plan.pairs:
        return "once each"
    times = plan.pairs_scored / plan.pairs
    return f"{times:.2f} times each (once with {_bytes(plan.memory_bytes_once)} of memory)"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"
