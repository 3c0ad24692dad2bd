"""Comparing two indexes: compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.common import Json, app, show


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="Index folder.")],
    second: Annotated[Path, typer.Argument(help="Another, of the same objects or of some of them.")],
    *,
    k: Annotated[
        list[int] | None,
        typer.Option("-k", min=1, help="Depth of the overlap; repeat for several (default: 1 10 100)."),
    ] = None,
    p: Annotated[float, typer.Option("-p", help="Persistence of the rank-biased overlap, between 0 and 1.")] = 0.9,
    out: Annotated[Path | None, typer.Option("--out", help="A .csv of every object's figures.")] = None,
    plot: Annotated[Path | None, typer.Option(help="A .png of how they are spread.")] = None,
    json: Json = False,
) -> None:
    """Compare the lists of two indexes: model against model, release against release.

    Example: lookalike compare OLD NEW -k 10 -k 100 --out changes.csv --plot changes.png
    """
    from lookalike.indexer.compare import DEPTHS
    from lookalike.indexer.compare import compare as run

    report = run(first, second, depths=k or DEPTHS, p=p, out=out, plot=plot)
    if json:
        show(report.to_json(), json)
        return
    said = {"objects in both": f"{report.common:,} ({report.only_a:,} only in {first}, {report.only_b:,} in {second})"}
    said |= {f"overlap@{depth}": _figure(value) for depth, value in report.overlap.items()}
    said |= {f"rank-biased overlap, p = {report.p:g}": _figure(report.rbo)}
    within = f"among the first {report.depth:,}"
    said |= {
        "neighbors gained": f"{report.gained:,} {within}, {report.gained_new:,} of them new objects",
        "neighbors lost": f"{report.lost:,} {within}, {report.lost_gone:,} of them objects that left",
        "lists that name the same": f"{report.unchanged:,}",
    }
    show(said, json)


def _figure(value: float | None) -> str:
    return "undefined: no object has neighbors" if value is None else f"{value:.4f}"
