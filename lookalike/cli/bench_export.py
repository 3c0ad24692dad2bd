"""`lookalike bench export`."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated

import typer

from lookalike.cli.bench import group
from lookalike.cli.common import Json
from lookalike.wording import counted


@group.command()
def export(
    objects: Annotated[int, typer.Option(min=101, help="Objects of the made-up index.")] = 200_000,
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbors of each.")] = 100,
    format: Annotated[list[str] | None, typer.Option(help="parquet, csv, h5, fits or vot; repeatable.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each contender.")] = 3,
    json: Json = False,
) -> None:
    """Exporting neighbor lists, from index to file, beside a bare write of a table in memory (a minute).

    Example: lookalike bench export --format parquet --format csv
    """
    from lookalike.bench.export import bench_export

    report = bench_export(objects=objects, k=k, formats=format or (), rounds=rounds)
    if json:
        print(jsonlib.dumps(report))
        return
    print(f"{counted(report['rows'], 'row')} on {counted(report['cores'], 'core')}; million rows a minute:")
    print(f"  limit    {report['limit_rows_per_minute'] / 1e6:7.1f}   pyarrow, table in memory, its defaults")
    print(f"  limit    {report['limit_own_settings_rows_per_minute'] / 1e6:7.1f}   the same, with our settings")
    for case in report["cases"]:
        with_ = f" with {', '.join(case['columns'])}" if case["columns"] else ""
        print(
            f"  {case['format']:8} {case['rows_per_minute'] / 1e6:7.1f}   {case['seconds']:.1f} s, "
            f"{case['bytes'] / 1e6:.0f} MB, {case['memory_mb']:.0f} MB of memory{with_}"
        )
    print(f"  target   {report['target_rows_per_minute'] / 1e6:7.1f}   to Parquet")
