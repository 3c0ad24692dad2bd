"""Commands about data: ingest, info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.common import Json, Out, Overwrite, app, say, show
from lookalike.wording import counted


@app.command()
def ingest(
    source: Annotated[
        str,
        typer.Argument(help="hubble, legacysurvey, images, fits, numpy, hdf5, idx, jets, higgsml, events, trackml."),
    ],
    files: Annotated[list[Path] | None, typer.Argument(help="Source files or folders (none for hubble).")] = None,
    *,
    out: Out,
    domain: Annotated[str | None, typer.Option(help="galaxy, image, jet, event, track (default: by source)")] = None,
    catalog: Annotated[Path | None, typer.Option(help="Table of columns, or of positions to cut out.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column that holds the ids.")] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Side of the stored pictures, px: images are resized, others cropped; most particles."),
    ] = None,
    crop: Annotated[int | None, typer.Option(help="images: keep this center only, px, before resizing.")] = None,
    resize: Annotated[
        int | None, typer.Option(help="numpy, hdf5, idx: resize whole pictures to this side, px.")
    ] = None,
    bands: Annotated[str | None, typer.Option(help="Band names in stored order, e.g. g,r,z; jets: pt,eta,phi.")] = None,
    unit: Annotated[
        str | None, typer.Option(help="Of fluxes; of momenta GeV, MeV or (jets) TeV. Where files do not say.")
    ] = None,
    pixel_scale: Annotated[float | None, typer.Option(help="arcsec/px, where the files do not say.")] = None,
    mode: Annotated[str | None, typer.Option(help="fits: cutouts or positions; jets: jets or events.")] = None,
    radius: Annotated[float | None, typer.Option(help="jets, of events: R of anti-kT (default: 0.8).")] = None,
    min_pt: Annotated[float | None, typer.Option(help="jets, of events: least pT of both jets, GeV.")] = None,
    max_eta: Annotated[float | None, typer.Option(help="jets, of events: largest |η| of both jets.")] = None,
    layout: Annotated[str | None, typer.Option(help="higgsml: features or particles (default: features).")] = None,
    columns: Annotated[Path | None, typer.Option(help="events: what the columns are, in TOML or JSON.")] = None,
    overlaps: Annotated[
        str | None, typer.Option(help="events: keep or drop objects listed twice (default: keep).")
    ] = None,
    sample: Annotated[str | None, typer.Option(help="trackml: hits or tracks (default: hits).")] = None,
    labels: Annotated[list[Path] | None, typer.Option(help="idx: labels of each file, in order; repeatable.")] = None,
    array: Annotated[str | None, typer.Option(help="numpy (.npz), hdf5: array of the pictures.")] = None,
    bands_last: Annotated[bool, typer.Option("--bands-last", help="numpy, hdf5: arrays are (N, H, W, C).")] = False,
    permute: Annotated[int | None, typer.Option(min=0, help="Shuffle all pixels by this seed (a control).")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Skip odd files, count and list them.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Turn source files into a samples file.

    Example: lookalike ingest images photos/ --catalog photos.csv --size 64 --out samples.h5
    """
    from lookalike.datasets import ingest as run
    from lookalike.datasets.contract import some_left_out
    from lookalike.provenance import record_path

    names = tuple(band.strip() for band in bands.split(",")) if bands else None
    report = run(
        source,
        files or [],
        out,
        domain=domain,
        catalog=catalog,
        id_column=id_column,
        size=size,
        crop=crop,
        resize=resize,
        bands=names,
        unit=unit,
        pixel_scale=pixel_scale,
        mode=mode,
        radius=radius,
        min_pt=min_pt,
        max_eta=max_eta,
        layout=layout,
        columns=columns,
        overlaps=overlaps,
        sample=sample,
        labels=labels,
        array=array,
        bands_last=bands_last,
        permute=permute,
        skip_bad=skip_bad,
        overwrite=overwrite,
    )
    for note in report.notes:
        say(note)
    shown = some_left_out(report.skipped)
    for text in shown:
        say(f"skipped {text}")
    if more := len(report.skipped) - len(shown):
        say(f"and {more:,} more; all {len(report.skipped):,} are listed in {record_path(report.out)}")
    for what, number in report.counts.items():
        if what not in report.told:
            say(f"{number:,} {what}")
    print(f"{counted(report.n, 'object')} in {report.out}")


@app.command()
def info(
    path: Annotated[Path, typer.Argument(help="A file or folder of ours, or a folder of them.")], json: Json = False
) -> None:
    """Say what any of our files is and what made it, or which of them a folder holds.

    Example: lookalike info samples.h5
    """
    from lookalike.contents import describe_all
    from lookalike.summary import summary

    if json:
        show(describe_all(path), json)
    else:
        print(summary(path))
