"""The command bench search."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.bench import group
from lookalike.cli.common import Json, Seed


@group.command()
def search(
    objects: Annotated[int, typer.Option(min=10, help="Vectors to search.")] = 1_000_000,
    dimensions: Annotated[int, typer.Option(min=1, help="Numbers of each.")] = 512,
    k: Annotated[int, typer.Option("-k", min=1, help="Results.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each contender.")] = 7,
    dtype: Annotated[str, typer.Option(help="float32 or float16; faiss takes the first only.")] = "float32",
    scratch: Annotated[
        Path | None, typer.Option(help="Folder for the vectors, 2 GB by default, removed after.")
    ] = None,
    rivals: Annotated[
        Path | None, typer.Option(help="Virtual environment with usearch and lancedb; not measured without.")
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """One exact query from a memory map beside the bare matrix-vector product, faiss, usearch and LanceDB (minutes).

    Example: lookalike bench search --rivals rivals-venv
    """
    from lookalike.bench.search import bench_search

    report = bench_search(
        objects=objects, dimensions=dimensions, k=k, rounds=rounds, dtype=dtype, scratch=scratch, rivals=rivals,
        seed=seed,
    )  # fmt: skip
    if json:
        print(jsonlib.dumps(report))
        return
    print(
        f"{report['n']:,} × {report['d']} {report['dtype']} ({report['gigabytes']:.2f} GB), k = {report['k']}, "
        f"{report['threads']} threads; ms for one query, median of {report['rounds']} turns and best:"
    )
    for name, taken in report["seconds"].items():
        version = f" {report['versions'][name]}" if name in report["versions"] else ""
        print(f"  {name + version:18} {1e3 * taken['median']:9.1f} {1e3 * taken['best']:9.1f}")
    for name, cold in report["cold_seconds"].items():
        print(f"  {name + ', cold':18} {1e3 * cold:9.1f}")
    for name, reason in report["not_measured"].items():
        print(f"  {name:18} not measured: {reason}")
    print(
        f"rounded once in {report['rounding_seconds']:.1f} s to {report['rounded_gigabytes']:.2f} GB; of the vectors "
        f"themselves {report['rows_read_unrounded']:,} are read"
    )
    print(
        f"{report['of_matvec']:.2f} of the faster matrix-vector product, unrounded {report['unrounded_of_matvec']:.2f}"
    )
    for name, ratio in report.items():
        if name.startswith("speedup_vs_"):
            print(f"{ratio:.2f} times as fast as {name.removeprefix('speedup_vs_')}")
    print(f"ours is the exact answer: {'yes' if report['equal'] else 'NO'}")
