"""Lists of particles as every format of jets gives them, and the momenta of their sums. Momenta in GeV, η, φ in rad."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.datasets.contract import Ledger, listed
from lookalike.errors import InputError, LookalikeError
from lookalike.samples import Column
from lookalike.wording import in_one_line

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Whatever a library raises on a damaged file is an InputError that names it."""
    try:
        yield
    except LookalikeError:
        raise
    except Exception as error:  # each library raises errors of many kinds
        raise InputError(f"{path} cannot be read as {what}: {in_one_line(error)}", code="bad_file") from None


@dataclass(frozen=True)
class Block:
    """Consecutive objects: how many particles each has (n,), and those of all, one after the other (m,).

    first : the row of the first of them in its part. jet : which jet of its object a particle is of; None where each
    object is one jet, or a whole event. columns : values (n,) of the file's own.
    """

    first: int
    counts: Ints
    pt: Floats
    eta: Floats
    phi: Floats
    jet: Ints | None = None
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    rows: Ints | None = None  # of the objects in their part, where some were left out

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def row(self) -> Ints:
        """The rows (n,) of the objects in their part."""
        return self.first + np.arange(len(self), dtype=np.int64) if self.rows is None else self.rows

    @property
    def of(self) -> Ints:
        """Which object (m,) of the block each particle is of."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.counts)

    def particles(self, keep: NDArray[np.bool_]) -> Block:
        """The same objects with some of the particles (m,)."""
        counts = np.bincount(self.of[keep], minlength=len(self)).astype(np.int64)
        jet = None if self.jet is None else self.jet[keep]
        return replace(self, counts=counts, pt=self.pt[keep], eta=self.eta[keep], phi=self.phi[keep], jet=jet)

    def objects(self, keep: NDArray[np.bool_]) -> Block:
        """Some of the objects (n,) with all of their particles."""
        kept = self.particles(keep[self.of])
        columns = {name: values[keep] for name, values in self.columns.items()}
        return replace(kept, counts=kept.counts[keep], columns=columns, rows=self.row[keep])


@dataclass(frozen=True)
class Part:
    """The objects of one file, or of one group of arrays in it.

    name : for ids. where : for messages. most : the most particles of an object, None where that is not known before
    they are read. events : whether an object is a whole event, to be clustered. unit : of momenta, None where the
    file does not say. columns : the file's own.
    """

    name: str
    where: str
    n: int
    most: int | None
    blocks: Callable[[], Iterator[Block]]
    events: bool = False
    unit: str | None = None
    columns: dict[str, Column] = field(default_factory=dict)


def note_other_lengths(path: Path, shapes: Mapping[str, tuple[int, ...]], parts: list[Part], ledger: Ledger) -> None:
    """Tell which arrays of one dimension are no columns, since they have not one value of each object."""
    lengths = {part.n for part in parts}
    if odd := [name for name, shape in shapes.items() if len(shape) == 1 and shape[0] not in lengths]:
        ledger.note(f"Left out of {path.name}, having not one value of each object: {listed(odd)}.")


def from_padded(first: int, values: dict[str, Floats], columns: dict[str, NDArray[Any]]) -> Block:
    """A block of arrays (n, P) by quantity, whose empty places have no momentum.

    values : pt, eta, phi or px, py, pz, and jet where it is stored.
    """
    values = with_angles(values)
    filled = values["pt"] != 0  # NaN too, which is looked at later
    jet = as_jet(values["jet"][filled]) if "jet" in values else None
    pt, eta, phi = (values[name][filled].astype(np.float64) for name in ("pt", "eta", "phi"))
    return Block(first, filled.sum(1, dtype=np.int64), pt, eta, phi, jet=jet, columns=columns)


def as_jet(values: NDArray[Any]) -> Ints:
    """Which jet a particle is of: 0, 1, or −1 for any other number."""
    found: Ints = np.where((values == 0) | (values == 1), values, -1).astype(np.int64)
    return found


def with_angles(values: dict[str, Floats]) -> dict[str, Floats]:
    """The same with pt, eta, phi where px, py, pz are given."""
    if "pt" in values:
        return values
    px, py, pz = (values[name].astype(np.float64) for name in ("px", "py", "pz"))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        pt = np.hypot(px, py)
        eta = np.where(pt != 0, np.arcsinh(pz / pt), 0.0)
    return values | {"pt": pt, "eta": eta, "phi": np.arctan2(py, px)}


def wrapped(phi: Floats) -> Floats:
    """The same angles within (−π, π]."""
    found: Floats = phi - 2 * pi * np.ceil((phi - pi) / (2 * pi))
    return found


def four_momenta(block: Block, jets: int) -> Floats:
    """E, px, py, pz (n, jets, 4) of the sums of massless particles."""
    jet = block.jet if block.jet is not None else np.zeros(len(block.pt), np.int64)
    place = block.of * jets + jet  # (m,)
    parts = (
        block.pt * np.cosh(block.eta),
        block.pt * np.cos(block.phi),
        block.pt * np.sin(block.phi),
        block.pt * np.sinh(block.eta),
    )
    sums = [np.bincount(place, part, len(block) * jets).astype(np.float64) for part in parts]
    found: Floats = np.stack(sums, axis=1).reshape(len(block), jets, 4)
    return found


def invariant_mass(p: Floats) -> Floats:
    """√(E² − p²) (…,) of four-momenta (…, 4); what rounding makes negative is 0."""
    found: Floats = np.sqrt(np.maximum(p[..., 0] ** 2 - (p[..., 1:] ** 2).sum(-1), 0.0))
    return found


def kinematics(block: Block, jets: int) -> dict[str, NDArray[Any]]:
    """pt, eta, phi, mass (n,) of each jet, the second's with _2, m_jj of two, and how many constituents there are."""
    p = four_momenta(block, jets)
    found: dict[str, NDArray[Any]] = {}
    for jet in range(jets):
        suffix = "" if jet == 0 else f"_{jet + 1}"
        pt = np.hypot(p[:, jet, 1], p[:, jet, 2])
        with np.errstate(divide="ignore", invalid="ignore"):
            eta = np.arcsinh(p[:, jet, 3] / pt)
        phi = np.arctan2(p[:, jet, 2], p[:, jet, 1])
        for name, values in (("pt", pt), ("eta", eta), ("phi", phi), ("mass", invariant_mass(p[:, jet]))):
            found[name + suffix] = np.where(pt > 0, values, np.nan)
    if jets == 2:
        found["m_jj"] = np.where(np.isfinite(found["pt_2"]), invariant_mass(p.sum(1)), np.nan)
    return found | {"n_constituents": block.counts}


def described(jets: int) -> dict[str, Column]:
    """What the columns of `kinematics` are."""
    columns: dict[str, Column] = {}
    for jet, which in zip(range(jets), ("leading jet", "second jet"), strict=False):
        suffix = "" if jet == 0 else f"_{jet + 1}"
        whose = "jet" if jets == 1 else which
        columns |= {
            f"pt{suffix}": Column("GeV", f"transverse momentum of the {whose}"),
            f"eta{suffix}": Column("", f"pseudorapidity of the {whose}"),
            f"phi{suffix}": Column("rad", f"azimuth of the {whose}, within ±π"),
            f"mass{suffix}": Column("GeV", f"mass of the {whose}, of massless constituents"),
        }
    if jets == 2:
        columns["m_jj"] = Column("GeV", "mass of both jets together")
    return columns | {"n_constituents": Column("", "constituents of the jets, those not stored included")}
