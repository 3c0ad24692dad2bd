"""The command that exports neighbor lists as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.common import IndexFolder, Json, Overwrite, Samples, app, listed, say, show
from lookalike.errors import InputError
from lookalike.wording import counted


@app.command()
def export(
    index: IndexFolder,
    *,
    ids: Annotated[
        Path | None, typer.Option(help="Objects to export: a file of ids, one a line, or a table with a column id.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Export the lists of all objects.")] = False,
    k: Annotated[
        int | None, typer.Option("-k", help="Neighbors of each object (default: all that are stored).")
    ] = None,
    min_similarity: Annotated[
        float | None, typer.Option(help="Leave out neighbors that are less similar (-1 to 1).")
    ] = None,
    columns: Annotated[str, typer.Option(help="Catalog columns of the neighbor, e.g. mag,size")] = "",
    out: Annotated[Path, typer.Option("--out", help="What to write: .parquet, .csv, .h5, .fits or .vot.")],
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="Leave out ids that no object has; else they are an error.")
    ] = False,
    samples: Samples = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write neighbor lists as a table: id, neighbor_id, rank, similarity and catalog columns of the neighbor.

    Example: lookalike export INDEX --all -k 100 --min-similarity 0.8 --columns mag --out lists.parquet
    """
    from lookalike.indexer.export import export_lists

    if every == (ids is not None):
        given = "both were" if every else "neither was"
        raise InputError(f"Export the lists of --all objects or of those in --ids FILE, but {given} given.")
    report = export_lists(
        index,
        out,
        ids=ids,
        k=k,
        min_similarity=min_similarity,
        columns=listed(columns),
        skip_unknown=skip_unknown,
        samples=samples,
        overwrite=overwrite,
        quiet=json,
    )
    if json:
        show(report.to_json(), json)
        return
    for note in report.notes:
        say(note)
    if report.without:
        has = "has no neighbor" if report.without == 1 else "have no neighbor"
        say(f"{counted(report.without, 'object')} {has} to export and no row.")
    print(f"{counted(report.rows, 'row')} of {counted(report.objects, 'object')} in {out}")
