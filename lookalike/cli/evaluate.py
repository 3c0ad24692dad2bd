"""Commands that measure an encoder: evaluate invariance, evaluate retrieval, evaluate sculpting."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.common import Files, Json, Samples, Seed, app, say, show

evaluate = typer.Typer(no_args_is_help=True, help="Measure what an encoder's similarity is worth.")
app.add_typer(evaluate, name="evaluate")


@evaluate.command()
def invariance(
    samples: Files,
    *,
    checkpoint: Annotated[Path, typer.Option(help="Folder of a trained encoder.")],
    objects: Annotated[int, typer.Option(min=2, help="Objects measured; of more, a random part by --seed.")] = 5000,
    without: Annotated[
        list[str] | None, typer.Option(metavar="STEP", help="A step that is off and is to be left out; repeatable.")
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option(metavar="STEP", help="A step that is off by default (foreground), measured all the same."),
    ] = None,
    max_overlap: Annotated[
        float, typer.Option(min=0, max=1, help="Objects whose footprint overlaps by more do not compete.")
    ] = 0.25,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots to this file.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Say whether augmented copies find their originals: each augmentation alone and all together.

    Example: lookalike evaluate invariance samples.h5 --checkpoint checkpoints/mine --html invariance.html
    """
    from lookalike.probes.outputs import check_page

    if html is not None:
        check_page(html, [*samples, checkpoint])  # before the work, not after it

    from lookalike.probes.invariance import measure
    from lookalike.probes.report import as_json, as_text

    measured = measure(
        samples,
        checkpoint,
        objects=objects,
        without=without or (),
        extra=extra or (),
        max_overlap=max_overlap,
        seed=seed,
        device=device,
    )
    if html is not None:
        from lookalike.probes.report_html import write_page

        write_page(measured, html)
        say(f"page: {html}")
    if json:
        show(as_json(measured), as_json=True)
    else:
        print(as_text(measured))


@evaluate.command()
def retrieval(
    samples: Files,
    *,
    label: Annotated[
        str, typer.Option(help="Column that says which objects are alike; hour:minute of two, the time on a dial.")
    ],
    checkpoint: Annotated[Path | None, typer.Option(help="Folder of a trained encoder.")] = None,
    embeddings: Annotated[Path | None, typer.Option(help="Vectors of these samples, in place of embedding.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Length of the lists looked at.")] = 10,
    kind: Annotated[
        str | None, typer.Option(help="categorical, continuous or circular (default: by the values)")
    ] = None,
    period: Annotated[float | None, typer.Option(help="Of circular labels, once round: 360 of degrees.")] = None,
    asking: Annotated[
        str | None, typer.Option("--class", help="Only objects of this class ask; all are found.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Column of how many events each object stands for.")] = None,
    no_label: Annotated[
        list[str] | None, typer.Option(help="Value that means an object has no label; repeatable.")
    ] = None,
    split: Annotated[str, typer.Option(help="half: choose on one half, report the other; none: no halves.")] = "half",
    tune: Annotated[bool, typer.Option("--tune/--report", help="Show the tuning half, or the reporting one.")] = False,
    max_overlap: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Leave out footprints sharing more than this (0 to 1) with the query's."),
    ] = None,
    layer: Annotated[str, typer.Option(help="embedding or projection.")] = "embedding",
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap resamples.")] = 2000,
    max_queries: Annotated[int | None, typer.Option(min=1, help="Objects that ask, of each half.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write bars with intervals (.png, .svg or .pdf).")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with plot and tables to this file.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Say whether lists hold objects of the query's label, beside raw pixels, an untrained encoder and hand features.

    Example: lookalike evaluate retrieval samples.h5 --checkpoint checkpoints/mine --label class --plot retrieval.png
    """
    from lookalike.probes.outputs import check_page, check_picture

    if plot is not None:
        check_picture(plot, [*samples, embeddings, checkpoint])
    if html is not None:
        check_page(html, [*samples, embeddings, checkpoint])

    from lookalike.probes.evaluate_retrieval import evaluate_retrieval
    from lookalike.probes.retrieval_page import draw, write_page
    from lookalike.probes.retrieval_report import as_json, as_text

    report = evaluate_retrieval(
        samples,
        label=label,
        checkpoint=checkpoint,
        embeddings=embeddings,
        k=k,
        kind=kind,
        period=period,
        asking=asking,
        weights=weights,
        no_label=no_label or (),
        split=split,
        tune=tune,
        max_overlap=max_overlap,
        layer=layer,
        resamples=resamples,
        max_queries=max_queries,
        device=device,
        seed=seed,
    )
    if plot is not None:
        draw(report, plot)
        say(f"plot: {plot}")
    if html is not None:
        write_page(report, html)
        say(f"page: {html}")
    if json:
        show(as_json(report), as_json=True)
    else:
        print(as_text(report))


@evaluate.command()
def sculpting(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    *,
    column: Annotated[str, typer.Option(help="Catalog column of numbers, such as m_jj or mass.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbors of each object.")] = 10,
    weights: Annotated[str | None, typer.Option(help="Column of how many events each object stands for.")] = None,
    max_queries: Annotated[
        int, typer.Option(min=20, help="Objects that ask; of more, a random part by --seed.")
    ] = 5000,
    plot: Annotated[Path | None, typer.Option(help="Write the distributions (.png, .svg or .pdf).")] = None,
    samples: Samples = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Say whether neighbors are alike in a column beyond what their window makes them (mass sculpting).

    Example: lookalike evaluate sculpting INDEX --column m_jj --plot sculpting.png
    """
    from lookalike.probes.outputs import check_picture

    if plot is not None:
        check_picture(plot, [index, *(samples or ())])

    from lookalike.probes.sculpting import as_json, as_text, draw, measure

    found = measure(index, column, k=k, weights=weights, max_queries=max_queries, samples=samples, seed=seed)
    if plot is not None:
        draw(found, plot)
        say(f"plot: {plot}")
    if json:
        show(as_json(found), as_json=True)
    else:
        print(as_text(found))
