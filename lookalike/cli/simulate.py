"""Commands that draw data with known truth: simulate clocks, simulate galaxies."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lookalike.cli.common import Out, Overwrite, Seed, app
from lookalike.wording import counted

if TYPE_CHECKING:
    from lookalike.simulate import Maker

group = typer.Typer(no_args_is_help=True, help="Draw data whose classes or truths are known, marked as simulated.")
app.add_typer(group, name="simulate")

Number = Annotated[int, typer.Option("-n", "--number", min=1, help="How many objects.")]


@group.command()
def clocks(
    *,
    out: Out,
    number: Number = 1000,
    seed: Seed = 0,
    turn: Annotated[float, typer.Option(min=0, max=180, help="Dials are turned by up to this, degrees.")] = 25.0,
    size: Annotated[int, typer.Option(min=28, max=150, help="Side of the pictures, px.")] = 150,
    overwrite: Overwrite = False,
) -> None:
    """Analog clocks, gray, with columns hour, minute and angle.

    Example: lookalike simulate clocks --out clocks.h5 -n 5000 --seed 1
    """
    from lookalike.simulate.clocks import Clocks

    _write(Clocks(seed, turn, size), out, number, overwrite)


@group.command()
def galaxies(
    *,
    out: Out,
    number: Number = 1000,
    seed: Seed = 0,
    size: Annotated[int, typer.Option(min=64, max=512, help="Side of the pictures, px of 0.262 arcsec.")] = 152,
    overwrite: Overwrite = False,
) -> None:
    """Galaxies of eight kinds in g, r, z, nanomaggies, with the Legacy Surveys' columns and a column class.

    Example: lookalike simulate galaxies --out galaxies.h5 -n 2000 --seed 1
    """
    from lookalike.simulate.galaxies import Galaxies

    _write(Galaxies(seed, size), out, number, overwrite)


def _write(maker: Maker, out: Path, number: int, overwrite: bool) -> None:
    from lookalike.simulate import write

    start = time.monotonic()
    made = write(maker, out, number, overwrite=overwrite)
    rate = made.n / max(time.monotonic() - start, 1e-9)
    print(f"{counted(made.n, 'simulated object')} in {made.out}, {rate:,.0f} per second")
