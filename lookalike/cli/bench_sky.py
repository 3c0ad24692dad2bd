"""The command that measures cone searches: bench sky."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated

import typer

from lookalike.cli.bench import group
from lookalike.cli.common import Json, Seed


@group.command()
def sky(
    rows: Annotated[int, typer.Option(min=1, help="Simulated positions.")] = 42_272_646,
    cones: Annotated[int, typer.Option(min=1, help="Cones timed at each radius.")] = 200,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Cone search beside a scan of all positions and trees in memory (minutes, and 8 GB for 42 million rows).

    Example: lookalike bench sky --rows 1000000
    """
    from lookalike.bench.sky import bench_sky

    report = bench_sky(rows, cones=cones, seed=seed)
    if json:
        print(jsonlib.dumps(report))
        return
    build, tree, astropy = (report[name] for name in ("build", "kdtree", "astropy"))
    print(
        f"{rows:,} positions, evenly over the sky\n"
        f"  zones    made in {build['seconds']:6.1f} s, {build['bytes'] / 1e6:,.0f} MB on disk, mapped; making it held "
        f"{build['peak_memory_mb'] - build['of_imports_mb']:,.0f} MB\n"
        f"  cKDTree  made in {tree['build_seconds']:6.1f} s, {tree['memory_mb']:,.0f} MB in memory\n"
        f"  astropy  made in {astropy['build_seconds']:6.1f} s, {astropy['memory_mb']:,.0f} MB in memory\n"
        "Milliseconds of a cone, median (longest):\n"
        f"  {'radius':>11} {'found':>9}  {'zones':>17} {'cold':>17} {'scan':>9} {'cKDTree':>9} {'astropy':>9}  equal"
    )
    for row in report["cones"]:
        cold = "not known here" if row["zones_cold_ms"] is None else _both(row, "zones_cold")
        print(
            f"  {row['radius_arcsec']:6.0f} arcsec {row['found']:9.1f}  {_both(row, 'zones'):>17} {cold:>17} "
            f"{row['scan_ms']:9.1f} {row['kdtree_ms']:9.2f} {row['astropy_ms']:9.2f}  {'yes' if row['equal'] else 'NO'}"
        )


def _both(row: dict[str, float], name: str) -> str:
    return f"{row[f'{name}_ms']:.2f} ({row[f'{name}_longest_ms']:.2f})"
