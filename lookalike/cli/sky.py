"""Commands about the sky: sky, cone, crossmatch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.common import IndexFolder, Json, Out, Overwrite, Samples, app, listed, say, show
from lookalike.wording import counted

LISTED = 12


@app.command()
def sky(index: IndexFolder, *, samples: Samples = None, json: Json = False) -> None:
    """Make the sky index of an index with ra and dec, which `cone` and `crossmatch` need; `index` makes it too.

    Example: lookalike sky INDEX
    """
    from lookalike.indexer.sky_build import build_sky

    report = build_sky(index, samples=samples, quiet=json)
    if json:
        show(report.to_json(), json)
        return
    what = "is there already" if report.reused else "was made"
    print(
        f"The sky index of version {report.version} {what}: {counted(report.objects, 'object')} with a position, "
        f"{report.without_position:,} without."
    )


@app.command()
def cone(
    index: IndexFolder,
    *,
    at: Annotated[str, typer.Option("--at", help="Position: 150.1 +2.2, 10:00:24 +02:12:00 or J100024.0+021200.")],
    radius: Annotated[str, typer.Option("--radius", help="Angle with its unit: 5arcsec, 2arcmin, 0.1deg.")],
    limit: Annotated[int, typer.Option("--limit", help="At most so many objects, the nearest.")] = 1000,
    columns: Annotated[str, typer.Option(help="Catalog columns to print, e.g. mag,size")] = "",
    samples: Samples = None,
    json: Json = False,
) -> None:
    """Find the objects within a radius of a place on the sky, the nearest first.

    Example: lookalike cone INDEX --at "10:00:24 +02:12:00" --radius 5arcsec
    """
    from lookalike.cone import cone as run

    found = run(index, at, radius, limit=limit, columns=listed(columns), samples=samples)
    if json:
        show(found.to_json(), json)
        return
    center = found.center
    say(
        f"index version {found.index_version}, within {found.radius_arcsec:.10g} arcsec of ra {center.ra:.10g}, dec "
        f"{center.dec:.10g} deg (read as {center.form}): {counted(len(found.results), 'object')}"
    )
    for near in found.results:
        values = "  ".join(f"{name}={value}" for name, value in near.columns.items())
        print(f"{near.separation_arcsec:14.6f} arcsec  {near.ra:14.9f} {near.dec:+14.9f}  {near.id}  {values}".rstrip())
    if found.limited:
        say(f"There are more than these {limit:,}: give a higher --limit or a smaller --radius.")
    if found.without_position:
        say(f"{counted(found.without_position, 'object has', 'objects have')} no position, and cannot be found so.")


@app.command()
def crossmatch(
    index: IndexFolder,
    table: Annotated[Path, typer.Argument(help="Positions: .csv, .tsv, .parquet, .fits, .vot or .ecsv.")],
    *,
    radius: Annotated[str, typer.Option("--radius", help="Angle with its unit: 1arcsec.")],
    out: Out,
    k: Annotated[int, typer.Option("-k", help="Stored neighbors to give with each object that is found.")] = 0,
    matches: Annotated[int, typer.Option("--matches", help="Nearest objects to take for each row.")] = 1,
    ra: Annotated[str | None, typer.Option("--ra", help="Its column of right ascension (default: guessed).")] = None,
    dec: Annotated[str | None, typer.Option("--dec", help="Its column of declination (default: guessed).")] = None,
    columns: Annotated[str, typer.Option(help="Columns of the table to carry along, e.g. name,z")] = "",
    samples: Samples = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Find for each position of a table the nearest objects, and their neighbors; written as CSV or Parquet.

    Example: lookalike crossmatch INDEX sources.csv --radius 1arcsec -k 10 --out matches.csv
    """
    from lookalike.crossmatch import crossmatch as run

    report = run(
        index,
        table,
        out,
        radius=radius,
        k=k,
        matches=matches,
        ra=ra,
        dec=dec,
        columns=listed(columns),
        samples=samples,
        overwrite=overwrite,
        quiet=json,
    )
    if json:
        show(report.to_json(), json)
        return
    say(f"Positions are columns {report.columns[0]} and {report.columns[1]} of {table.name}, chosen {report.chosen}.")
    if report.missed:
        rows = ", ".join(str(row) for row in report.missed[:LISTED])
        more = f" and {len(report.missed) - LISTED:,} more" if len(report.missed) > LISTED else ""
        say(f"Rows without an object within {radius} (counted from 0): {rows}{more}; all are in {out}.")
    if report.without_position:
        say(f"{counted(report.without_position, 'row has', 'rows have')} no position.")
    print(f"{report.matched:,} of {counted(report.rows, 'row')} matched, {counted(report.lines, 'line')} in {out}")
