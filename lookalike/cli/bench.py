"""Commands that measure: bench train, bench embed, bench invariance, bench domains."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.common import Json, app, say
from lookalike.wording import counted

group = typer.Typer(no_args_is_help=True, help="Measure speed beside a limit and rivals in the same run.")
app.add_typer(group, name="bench")


@group.command()
def train(
    case: Annotated[list[str] | None, typer.Option(help="resnet18-64, resnet18-96 or resnet50-96; repeatable.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each contender.")] = 5,
    json: Json = False,
) -> None:
    """Training beside the bare model's limit, lightly's MoCo and per-sample augmentation (a few minutes).

    Example: lookalike bench train --case resnet18-64
    """
    from lookalike.bench.training import bench_training

    report = bench_training(case or (), rounds=rounds)
    if json:
        print(jsonlib.dumps(report))
        return
    print(f"{report['threads']} threads, batches of {report['batch']}; samples per second:")
    for row in report["cases"]:
        print(
            f"{row['encoder']}, views of {row['size']} px from float fluxes of {row['stored']} px\n"
            f"  limit    {row['limit_samples_per_s']:8.1f}   bare model ({row['limit_at']}); "
            f"{row['limit_in_our_precision_samples_per_s']:.1f} in {row['precision']}\n"
            f"  our loop {row['loop_samples_per_s']:8.1f}   {row['fraction_of_limit']:.2f} of the limit, "
            f"{row['fraction_of_limit_in_our_precision']:.2f} of that in {row['precision']}\n"
            f"  lightly  {row['lightly_samples_per_s']:8.1f}   we are {row['vs_lightly']:.2f} times as fast "
            f"({row['lightly_at']}),\n"
            f"           {row['lightly_in_our_precision_samples_per_s']:8.1f}   "
            f"{row['vs_lightly_in_our_precision']:.2f} times ({row['lightly_in_our_precision_at']})\n"
            f"  augment  {row['augment_samples_per_s']:8.1f}   both views; {row['augment_speedup_vs_per_sample']:.1f} "
            f"times the {row['per_sample_samples_per_s']:.1f} of one sample at a time on as many cores"
        )


@group.command()
def embed(
    case: Annotated[list[str] | None, typer.Option(help="resnet18-64, resnet18-96 or resnet50-96; repeatable.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each contender.")] = 5,
    json: Json = False,
) -> None:
    """Embedding, from file to file, beside the bare model on a batch in memory (a few minutes).

    Example: lookalike bench embed --case resnet18-64
    """
    from lookalike.bench.embedding import bench_embedding

    report = bench_embedding(case or (), rounds=rounds)
    if json:
        print(jsonlib.dumps(report))
        return
    print(f"{report['threads']} threads; samples per second, median of {rounds} turns and best:")
    for row in report["cases"]:
        peaks = [f"{mb:.0f} MB with {counted(int(n), 'object')}" for n, mb in row["peak_memory_mb"].items()]
        print(
            f"{row['encoder']}, views of {row['size']} px from float fluxes of {row['stored']} px\n"
            f"  limit  {row['limit_samples_per_s']:8.1f} {row['limit_best_samples_per_s']:8.1f}   bare model "
            f"({row['limit_at']})\n"
            f"  embed  {row['embed_samples_per_s']:8.1f} {row['embed_best_samples_per_s']:8.1f}   from file to file: "
            f"{row['fraction_of_limit']:.2f} of the limit, {row['fraction_of_limit_best']:.2f} of the best\n"
            f"  memory {', '.join(peaks) or 'not known here'}"
        )


@group.command()
def invariance(
    samples: Annotated[list[Path], typer.Argument(help="Samples files.")],
    config: Annotated[Path | None, typer.Option(help="Settings in TOML or JSON, as of `train`.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Epochs between two looks.")] = 5,
    objects: Annotated[int, typer.Option(min=2, help="Objects looked for among each other.")] = 2500,
    plot: Annotated[Path | None, typer.Option(help="Draw the curve as a PNG.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting, as of `train`; repeatable.")] = None,
    json: Json = False,
) -> None:
    """How often augmented copies find their originals, against the time spent training (as long as the training).

    Example: lookalike bench invariance samples.h5 --every 15 --plot curve.png
    """
    from lookalike.bench.invariance import WAYS, bench_invariance, plot_curve
    from lookalike.ssl.settings import TrainConfig

    report = bench_invariance(samples, TrainConfig().overridden(config, set_), every=every, objects=objects)
    if plot is not None:
        plot_curve(report, plot)
    if json:
        print(jsonlib.dumps(report))
        return
    print(f"Self-retrieval@1 among {counted(report['objects'], 'object')} with all augmentations (95 % interval)")
    print(f"  {'epoch':>5} {'training':>9}  " + "  ".join(f"{way:28}" for way in WAYS))
    for point in report["curve"]:
        shares = [f"{point[way]['value']:.3f} ({point[way]['low']:.3f}–{point[way]['high']:.3f})" for way in WAYS]
        print(f"  {point['epoch']:5} {point['seconds']:7.0f} s  " + "  ".join(f"{text:28}" for text in shares).rstrip())


@group.command()
def domains(
    cases: Annotated[Path, typer.Argument(help="The cases, .toml or .json, as benchmarks/domains.toml has them.")],
    *,
    work: Annotated[
        Path, typer.Option(help="Folder for what the cases make; a case that is done there is not redone.")
    ],
    data: Annotated[Path | None, typer.Option(help="Folder of real data; cases that need it are skipped else.")] = None,
    case: Annotated[list[str] | None, typer.Option(help="Only this one; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the table as Markdown, its plot (.png) beside it.")] = None,
    json: Json = False,
) -> None:
    """Each domain from samples to served lists, and what they are worth (hours with benchmarks/domains.toml).

    Example: lookalike bench domains benchmarks/domains.toml --work results --out docs/results.md
    """
    from lookalike.bench.domains import read_cases, run_cases
    from lookalike.bench.domains_report import as_json, as_text, draw, write_markdown

    found = run_cases(read_cases(cases, case or ()), work, data, say=say)
    if out is not None:
        picture = out.with_suffix(".png")
        draw(found, picture)
        write_markdown(found, out, picture)
        say(f"table: {out}, plot: {picture}")
    print(jsonlib.dumps(as_json(found)) if json else as_text(found))
