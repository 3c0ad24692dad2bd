"""Commands about indexes: index, search, verify, gc."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lookalike.cli.common import Checkpoint, Embeddings, Json, Out, Samples, Seed, app, say, show
from lookalike.wording import counted, top_share


@app.command()
def index(
    embeddings: Annotated[
        Path | None, typer.Argument(help="Embeddings file, or vectors of your own (.npy, .npz, .parquet, .h5).")
    ] = None,
    *,
    samples: Annotated[
        list[Path] | None, typer.Option("--samples", help="Its samples files; repeat for several shards.")
    ] = None,
    catalog: Annotated[
        Path | None, typer.Option(help="Table of your own vectors' objects, row by row, instead of --samples.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(help="Its column of ids, or several, joined as run:lumi:event (default: row numbers).")
    ] = None,
    array: Annotated[str | None, typer.Option(help="Which array, where a file of your own holds several.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Store your own vectors as float32 or float16 (default: as they are).")
    ] = None,
    out: Out,
    k: Annotated[int | None, typer.Option("-k", min=1, help="Neighbors stored per object (default: 999).")] = None,
    window: Annotated[
        str | None,
        typer.Option(help="column:half-width, e.g. mag:0.5 or log(pt):0.1, or none (default: the domain's usual one)"),
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="The encoder's folder, for picture queries.")] = None,
    append: Annotated[bool, typer.Option("--append", help="Add these objects to the index that --out is.")] = False,
    retract: Annotated[
        str | None, typer.Option(metavar="IDS", help="Take these objects out of it: a file of ids, or a list a,b,c.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder for the files of a set that grew or shrank (default: OUT-data).")
    ] = None,
) -> None:
    """Store every object's exact k most similar ones within its window.

    Example: lookalike index embeddings.h5 --samples samples.h5 --checkpoint checkpoints/mine --out INDEX -k 100
    or, of any model's vectors: lookalike index vectors.npy --catalog table.csv --id-column name --out INDEX
    """
    if append or retract is not None:
        of_a_build = {
            "window": window,
            "checkpoint": checkpoint,
            "catalog": catalog,
            "id-column": id_column,
            "array": array,
            "dtype": dtype,
        }
        _grow(embeddings, samples, out, k, of_a_build, append, retract, data)
        return
    from lookalike.errors import InputError
    from lookalike.indexer.index import build_index
    from lookalike.indexer.own_vectors import index_vectors, is_vectors, samples_of_ours
    from lookalike.indexer.windows import USUAL, Window

    if embeddings is None:
        raise InputError("An index is built from embeddings or vectors; give their file.")
    if data is not None:
        raise InputError("--data is for --append and --retract; a build writes to --out alone.")
    chosen = None if window == "none" else window or USUAL
    if is_vectors(embeddings):
        made = index_vectors(
            embeddings,
            out,
            catalog=catalog,
            samples=samples,
            id_column=id_column,
            array=array,
            dtype=dtype,
            k=k,
            window=chosen,
            checkpoint=checkpoint,
        )
        report, notes, shards = made.built, [*made.notes, *made.built.notes], list(made.samples)
    else:
        own = {"catalog": catalog, "id-column": id_column, "array": array, "dtype": dtype}
        shards = list(samples_of_ours(embeddings, samples, own))
        report = build_index(embeddings, shards, out, k=k, window=chosen, checkpoint=checkpoint)
        notes = list(report.notes)
    for note in notes:
        say(note)
    if report.short_lists and report.window is not None:
        has, them = ("has", "it") if report.short_lists == 1 else ("have", "them")
        none = f"{'has' if report.nan_count == 1 else 'have'} none"
        rest = f"; {counted(report.nan_count, 'object')} without a value there {none}" if report.nan_count else ""
        within = Window.parse(report.window).words
        say(
            f"{report.short_lists:,} of {counted(report.n, 'object')} {has} fewer than "
            f"{counted(report.k, 'neighbor')}, since fewer lie within {within} of {them}{rest}."
        )
    print(f"Index version {report.version} of {counted(report.n, 'object')}, k = {report.k}, in {out}")
    _make_sky(out, shards)


def _make_sky(out: Path, samples: list[Path]) -> None:
    """The sky index where there are ra and dec; what is wrong with these is said, and the index stands."""
    from lookalike.errors import InputError
    from lookalike.indexer.sky_build import build_sky, has_positions
    from lookalike.samples import Samples as Opened

    if not has_positions(Opened(samples)):
        return
    try:
        report = build_sky(out, samples=samples)
    except InputError as error:
        say(f"No sky index was made: {error.message}")
        return
    if not report.reused:
        say(f"Sky index of {counted(report.objects, 'position')}, for `cone` and `crossmatch`.")


def _grow(
    embeddings: Path | None,
    samples: list[Path] | None,
    out: Path,
    k: int | None,
    of_a_build: Mapping[str, object],
    append: bool,
    retract: str | None,
    data: Path | None,
) -> None:
    """Add objects to an index or take some out, and say what that took."""
    from lookalike.errors import InputError
    from lookalike.indexer import grow

    if given := [f"--{name}" for name, value in of_a_build.items() if value is not None]:
        raise InputError(
            f"--append and --retract keep an index's window and encoder and take files of ours, so {', '.join(given)} "
            "is for a build only; build again to change it."
        )
    if append and retract is not None:
        raise InputError("Objects are added (--append) or taken out (--retract), one after the other; give one.")
    if retract is not None:
        if embeddings is not None or samples:
            raise InputError("--retract needs no embeddings and no --samples: the index knows its own.")
        report = grow.retract(out, grow.retracted_ids(retract), k=k, data=data)
        done = f"{counted(report.retracted, 'object')} retracted"
    else:
        if embeddings is None or not samples:
            raise InputError("--append needs the embeddings file of the new objects and its --samples; give both.")
        report = grow.append(out, embeddings, samples, k=k, data=data)
        done = f"{counted(report.added, 'object')} added"
    for note in report.notes:
        say(note)
    say(
        f"{counted(report.searched, 'list')} searched anew, {report.entered:,} entered by a new object; "
        f"{counted(report.scored, 'pair')} scored, where a full build has {report.full_build:,}."
    )
    say(f"The embeddings of the new set are in {report.embeddings}; its samples: {', '.join(report.samples)}.")
    print(f"{done}: index version {report.version} of {counted(report.n, 'object')}, k = {report.k}, in {out}")
    _make_sky(out, [Path(path) for path in report.samples])


@app.command()
def search(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    *,
    id: Annotated[str | None, typer.Option("--id", help="Search from this object.")] = None,
    image: Annotated[Path | None, typer.Option(help="Search from a picture (PNG, JPEG, FITS, NPY).")] = None,
    vector: Annotated[Path | None, typer.Option(help="Search from a vector (.npy).")] = None,
    k: Annotated[int, typer.Option("-k", help="Number of results.")] = 100,
    at: Annotated[
        list[str] | None, typer.Option("--at", help="column=value: center of the window (an id has its own).")
    ] = None,
    columns: Annotated[str, typer.Option(help="Catalog columns to print, e.g. mag,size")] = "",
    max_overlap: Annotated[
        float | None, typer.Option(help="Leave out footprints sharing more than this (0 to 1) with the query's.")
    ] = None,
    samples: Samples = None,
    embeddings: Embeddings = None,
    checkpoint: Checkpoint = None,
    json: Json = False,
) -> None:
    """Find the objects most similar to an object, a picture or a vector.

    Example: lookalike search INDEX --id xdf-0001 -k 20 --columns mag --json
    """
    from lookalike.query import Query, answer

    query = Query(id=id, image=image, vector=vector, at=tuple(at or ()))
    names = [name.strip() for name in columns.split(",") if name.strip()]
    found = answer(
        index,
        query,
        k=k,
        columns=names,
        max_overlap=max_overlap,
        samples=samples,
        embeddings=embeddings,
        checkpoint=checkpoint,
    )
    if json:
        print(jsonlib.dumps(found.to_json(), ensure_ascii=False, allow_nan=False))
        return
    for note in found.notes:
        say(note)
    how = "the stored list" if found.source == "stored" else "a live search"
    say(f"index version {found.index_version}, {_within(found.window)}, from {how}")
    calibrated = any(result.random_share is not None for result in found.results)
    for result in found.results:
        values = "  ".join(f"{name}={value}" for name, value in result.columns.items())
        top = f"  {top_share(result.random_share, result.random_share_below)}" if calibrated else ""
        print(f"{result.rank:5d}  {result.similarity:.6f}  {result.id}{top}  {values}".rstrip())


def _within(window: Mapping[str, Any] | None) -> str:
    """A window as a person reads it."""
    if window is None:
        return "no window"
    from lookalike.indexer.windows import Window

    if window["center"] is None:
        return f"in no window (no {window['column']})"
    made = Window(window["column"], window["half_width"], window["log"])
    return f"within {made.words} of {window['column']} = {window['center']}"


@app.command()
def verify(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    *,
    audit: Annotated[int, typer.Option("--audit", help="Random lists recomputed, at least 100.")] = 100,
    seed: Seed = 0,
    samples: Samples = None,
    embeddings: Embeddings = None,
    checkpoint: Checkpoint = None,
    json: Json = False,
) -> None:
    """Check an index: every byte against its hash, random and difficult lists against brute force.

    Example: lookalike verify INDEX --audit 1000 --seed 7
    """
    from lookalike.indexer.audit import verify as run

    report = run(index, sample=audit, seed=seed, samples=samples, embeddings=embeddings, checkpoint=checkpoint)
    if json:
        show(report.to_json(), json)
        return
    for note in report.notes:
        say(note)
    lists = counted(report.recomputed, "list")
    print(f"OK: every byte matches its hash; {lists} recomputed by brute force, all equal.")
    shown = {name: value for name, value in report.to_json().items() if name != "notes"}
    show(shown | {"seconds": f"{report.seconds:.1f}"}, json)


@app.command()
def gc(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    *,
    keep: Annotated[int, typer.Option(help="Newest versions kept; the one that is served always is.")] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    json: Json = False,
) -> None:
    """Remove old versions of an index, and what killed builds left.

    Example: lookalike gc INDEX --keep 2 --dry-run
    """
    from lookalike.indexer.collect import collect

    found = collect(index, keep=keep, dry_run=dry_run)
    if json:
        show(found.to_json(), json)
        return
    for name in found.removed:
        print(name)
    count = f"{len(found.removed):,} {'to remove' if dry_run else 'removed'}"
    print(f"{count}, {counted(found.bytes, 'byte')}; kept {', '.join(found.kept)}.")


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
