"""Commands about indexes: index, search, verify, gc."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lookalike.cli.common import Checkpoint, Embeddings, Json, Out, Samples, Seed, app, say, show
from lookalike.wording import counted


@app.command()
def index(
    embeddings: Annotated[
        Path, typer.Argument(help="Embeddings file, or vectors of your own (.npy, .npz, .parquet, .h5).")
    ],
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
    memory: Annotated[str, typer.Option(help="Memory the build keeps to, e.g. 4GiB or 500MB.")] = "1GiB",
) -> None:
    """Store every object's exact k most similar ones within its window; one that was stopped goes on where it was.

    Example: lookalike index embeddings.h5 --samples samples.h5 --checkpoint checkpoints/mine --out INDEX -k 100
    or, of any model's vectors: lookalike index vectors.npy --catalog table.csv --id-column name --out INDEX
    """
    from lookalike.indexer.index import build_index
    from lookalike.indexer.own_vectors import index_vectors, is_vectors, samples_of_ours
    from lookalike.indexer.windows import USUAL, Window
    from lookalike.sizes import parse_size

    budget = parse_size(memory)
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
            budget=budget,
        )
        report, notes, shards = made.built, [*made.notes, *made.built.notes], list(made.samples)
    else:
        own = {"catalog": catalog, "id-column": id_column, "array": array, "dtype": dtype}
        shards = list(samples_of_ours(embeddings, samples, own))
        report = build_index(embeddings, shards, out, k=k, window=chosen, checkpoint=checkpoint, budget=budget)
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
    for result in found.results:
        values = "  ".join(f"{name}={value}" for name, value in result.columns.items())
        print(f"{result.rank:5d}  {result.similarity:.6f}  {result.id}  {values}".rstrip())


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
    unfinished_days: Annotated[
        float, typer.Option(help="Days that a stopped build is kept after it was last saved.")
    ] = 7.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    json: Json = False,
) -> None:
    """Remove old versions of an index, and what killed builds left.

    Example: lookalike gc INDEX --keep 2 --dry-run
    """
    from lookalike.indexer.collect import collect

    found = collect(index, keep=keep, unfinished_days=unfinished_days, dry_run=dry_run)
    if json:
        show(found.to_json(), json)
        return
    for name in found.removed:
        print(name)
    count = f"{len(found.removed):,} {'to remove' if dry_run else 'removed'}"
    print(f"{count}, {counted(found.bytes, 'byte')}; kept {', '.join(found.kept)}.")
    for name in found.unfinished:
        print(f"{name} is kept: a stopped build, which the same `lookalike index` goes on with.")


@app.command()
def repair(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    *,
    samples: Samples = None,
    embeddings: Embeddings = None,
    json: Json = False,
) -> None:
    """Make a damaged index good again: only the lists that were altered are computed.

    Example: lookalike repair INDEX
    """
    from lookalike.indexer.repair import repair as run

    made = run(index, samples=samples, embeddings=embeddings)
    if json:
        show(made.to_json(), json)
        return
    for line in (*made.found, *made.done):
        print(line)
    if not made.found:
        print(f"Every file of version {made.version} is as it was written; nothing was done.")
