"""`lookalike bench index`."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.bench import group
from lookalike.cli.common import Json


@group.command()
def index(
    vectors: Annotated[
        Path | None, typer.Option(help="Real vectors: an embeddings file or .npy (default: of a Hubble picture).")
    ] = None,
    objects: Annotated[int | None, typer.Option("-n", min=100, help="Objects (default: 24,000).")] = None,
    full: Annotated[bool, typer.Option("--full", help="50,000 objects; half an hour or so.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each contender; the best counts.")] = 2,
    plot: Annotated[Path | None, typer.Option(help="Draw all cases as a PNG.")] = None,
    json: Json = False,
) -> None:
    """The all-objects build beside faiss, scikit-learn and half a matrix product (some ten minutes).

    Example: lookalike bench index --plot index.png
    """
    from lookalike.bench.index_plot import draw
    from lookalike.bench.indexing import FULL, USUAL, bench_indexing

    report = bench_indexing(n=objects or (FULL if full else USUAL), vectors=vectors, rounds=rounds)
    if plot is not None:
        draw(report, plot)
    if json:
        print(jsonlib.dumps(report))
        return
    for name, told in report["vectors"].items():
        print(
            f"{name}: {told['n']:,} × {told['dimensions']}, effective rank {told['effective_rank']:.1f}, "
            f"mean cosine {told['mean_cosine']:.3f}"
        )
    print(f"{report['threads']} threads; seconds:")
    print("vectors     n     D    k  window    ours   faiss sklearn  ½ gemm  × faiss  not settled  equal  scored by")
    for row in report["cases"]:
        print(
            f"{row['vectors']:6} {row['n']:6} {row['d']:5} {row['k']:4}  {row['window_fraction']:5.0%} "
            f"{row['seconds']:8.2f}{row['faiss_seconds']:8.2f}{row['sklearn_seconds']:8.2f}"
            f"{row['half_gemm_seconds']:8.2f}  {row['speedup_vs_faiss']:7.2f}  {row['pruned_share']:11.1%}  "
            f"{'yes' if row['equal'] else 'NO':5}  {row['scores']}"
        )
    means = [
        f"{kind} {report[f'geomean_speedup_{kind}']:.2f}"
        for kind in ("random", "real")
        if report[f"geomean_speedup_{kind}"] is not None
    ]
    print(f"geometric mean × faiss: {', '.join(means)}")
