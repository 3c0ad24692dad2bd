"""Commands about indexes: index, search, approximate, verify, gc, repair."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lookalike.cli.common import Checkpoint, Embeddings, Json, Out, Samples, Seed, app, say, show
from lookalike.cli.growing import add, refuse_of_a_build, take_out
from lookalike.errors import InputError
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
    memory: Annotated[str, typer.Option(help="Memory the build keeps to, e.g. 4GiB or 500MB.")] = "1GiB",
    append: Annotated[bool, typer.Option("--append", help="Add these objects to the index that --out is.")] = False,
    retract: Annotated[
        str | None, typer.Option(metavar="IDS", help="Take these objects out of it: a file of ids, or a list a,b,c.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder for the files of a set that grew or shrank (default: OUT-data).")
    ] = None,
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
    own = {"catalog": catalog, "id-column": id_column, "array": array, "dtype": dtype}
    if append or retract is not None:
        from lookalike.indexer.grow import GrowSettings

        refuse_of_a_build({"window": window, "checkpoint": checkpoint, **own})
        if append and retract is not None:
            raise InputError("Objects are added (--append) or taken out (--retract), one after the other; give one.")
        settings = GrowSettings(k=k, data=data, budget=budget)
        if retract is None:
            shards = add(out, embeddings, samples, settings)
        else:
            shards = take_out(out, retract, embeddings is not None or bool(samples), settings)
        _make_sky(out, shards)
        return
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
            budget=budget,
        )
        report, notes, shards = made.built, [*made.notes, *made.built.notes], list(made.samples)
    else:
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
    positive: Annotated[
        list[str] | None, typer.Option(help="Search for what is like this object; repeat for several.")
    ] = None,
    negative: Annotated[list[str] | None, typer.Option(help="… and unlike this one; repeat for several.")] = None,
    method: Annotated[
        str | None,
        typer.Option(help="mean (of the positives, less beta times the negatives') or linear (a classifier)"),
    ] = None,
    beta: Annotated[float | None, typer.Option(help="Weight of the negatives with mean (default: 0.5).")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Search by a recipe (JSON).")] = None,
    save_recipe: Annotated[Path | None, typer.Option(help="Write the question as a recipe.")] = None,
    k: Annotated[int | None, typer.Option("-k", help="Number of results (default: 100).")] = None,
    at: Annotated[
        list[str] | None, typer.Option("--at", help="column=value: center of the window (an id has its own).")
    ] = None,
    within: Annotated[
        list[str] | None,
        typer.Option(
            help='Window in place of the index\'s, e.g. mag:0.3 or "log(size):0.1", or none; repeat for several.'
        ),
    ] = None,
    where: Annotated[str | None, typer.Option(help='Only what passes, e.g. "mag < 20 and size > 3".')] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Look only where `lookalike approximate` points, and tell the recall.")
    ] = False,
    columns: Annotated[str, typer.Option(help="Catalog columns to print, e.g. mag,size")] = "",
    max_overlap: Annotated[
        float | None, typer.Option(help="Leave out footprints sharing more than this (0 to 1) with the query's.")
    ] = None,
    samples: Samples = None,
    embeddings: Embeddings = None,
    checkpoint: Checkpoint = None,
    json: Json = False,
) -> None:
    """Find the objects most similar to an object, to examples, a picture or a vector.

    Example: lookalike search INDEX --id xdf-0001 -k 20 --columns mag --json
    """
    from lookalike.query import Query, answer

    asked: dict[str, Any] = {
        "id": id, "image": image, "vector": vector, "at": tuple(at or ()), "positives": tuple(positive or ()),
        "negatives": tuple(negative or ()), "method": method, "beta": beta, "within": tuple(within or ()),
        "where": where,
    }  # fmt: skip
    if recipe is not None and (
        k is not None or save_recipe is not None or any(v not in (None, ()) for v in asked.values())
    ):
        raise InputError(
            "A --recipe is the whole question: only --columns, --max-overlap and --approximate go with it."
        )
    query = recipe if recipe is not None else Query(**asked)
    names = [name.strip() for name in columns.split(",") if name.strip()]
    found = answer(
        index,
        query,
        k=100 if k is None else k,
        columns=names,
        max_overlap=max_overlap,
        approximate=approximate,
        save_recipe=save_recipe,
        samples=samples,
        embeddings=embeddings,
        checkpoint=checkpoint,
    )
    if json:
        print(jsonlib.dumps(found.to_json(), ensure_ascii=False, allow_nan=False))
        return
    for note in found.notes:
        say(note)
    if save_recipe is not None and max_overlap is not None:
        say("A recipe holds no --max-overlap: give it beside --recipe again.")
    how = "the stored list" if found.source == "stored" else "a live search"
    within_all = " and ".join(_within(window) for window in found.windows) or "no window"
    such = "" if found.where is None else f", such that {found.where}"
    say(f"index version {found.index_version}, {within_all}{such}, from {how}")
    calibrated = any(result.random_share is not None for result in found.results)
    for result in found.results:
        values = "  ".join(f"{name}={value}" for name, value in result.columns.items())
        top = f"  {top_share(result.random_share, result.random_share_below)}" if calibrated else ""
        print(f"{result.rank:5d}  {result.similarity:.6f}  {result.id}{top}  {values}".rstrip())


def _within(window: Mapping[str, Any]) -> str:
    """A window as a person reads it."""
    from lookalike.indexer.windows import Window

    made, center = Window(window["column"], window["half_width"], window["log"]), window["center"]
    if center is None:
        return f"in no window (no {window['column']})"
    of = f"any of {len(center)} values" if isinstance(center, list) else center
    return f"within {made.words} of {window['column']} = {of}"


@app.command()
def approximate(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    *,
    target: Annotated[float, typer.Option(help="Recall to choose the number of cells for.")] = 0.95,
    k: Annotated[int, typer.Option("-k", min=1, help="Results that the recall to choose by is of.")] = 100,
    queries: Annotated[int, typer.Option(min=10, help="Held-out objects that recall is measured with.")] = 500,
    cells: Annotated[
        int | None, typer.Option(min=1, help="Cells (default: the root of the number of objects).")
    ] = None,
    embeddings: Embeddings = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Divide a large set into cells, for `search --approximate`, and measure what a look into few of them finds.

    Example: lookalike approximate INDEX --target 0.98
    """
    from lookalike.indexer.approximate import build_approximate

    report = build_approximate(
        index, embeddings=embeddings, target=target, k=k, queries=queries, cells=cells, seed=seed
    )
    if json:
        show(report.to_json(), json)
        return
    print(f"{counted(report.n, 'object')} in {counted(report.cells, 'cell')}; a search looks into {report.probes:,}.")
    for one in report.recall:
        print(f"recall@{one['k']:<5} {one['value']:.4f} ({one['low']:.4f}–{one['high']:.4f})")


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
