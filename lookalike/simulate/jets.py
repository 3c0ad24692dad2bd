"""Simulated events of two jets: di-jets of QCD, and some of a Hidden Valley, made by Pythia and seen by a detector.

Each event is showered and hadronized, its visible particles smeared, clustered with anti-kT, and kept where its two
leading jets pass; else another one takes its place. Stored as `ingest jets` does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.about import About, Column
from lookalike.augmentations.jet import Resolution, Smearing
from lookalike.datasets import anti_kt, pythia
from lookalike.datasets.jet_blocks import Block, Floats, Ints, described, kinematics, with_angles, wrapped
from lookalike.datasets.jets import BAND_UNITS, BANDS, ROOM, Cut, stored
from lookalike.errors import InputError
from lookalike.simulate.collisions import BEAM, LICENSE, MOST_EVENTS, TRIES, check_places, collision, measured_again
from lookalike.simulate.draws import Draws
from lookalike.simulate.jet_physics import QCD, hidden_valley

CLASSES = ("qcd", "hidden_valley")
MIN_PT, MAX_ETA = 750.0, 2.0  # GeV; |η|
MOST = 416  # constituents stored, those of both jets, and the places that augmentations split into
SOFTEST = 0.5  # GeV of pT: particles of less are not seen
FEWEST_PLACES = 32
SMEARING, RESOLUTION = Smearing(), Resolution()  # Λ = 100 MeV of each particle; f(pT) of each jet

COLUMNS = {
    **described(2),
    "label": Column("", f"what was made: {', '.join(CLASSES)}"),
    "tries": Column("", "events made until one passed"),
}


class Jets:
    """A set of events of a seed; `block` makes any of its rows, each from the seed and its row alone.

    signal : share of Hidden Valley events. invisible : share of their dark pions that no detector sees.
    min_pt (GeV) and max_eta (|η|) are what both leading jets must pass. places : for the constituents of an event, the
    hardest of which are stored, some left free for splits.
    """

    noun = "jets"
    rows_at_once = 20
    most = MOST_EVENTS

    def __init__(
        self,
        seed: int,
        signal: float = 0.1,
        *,
        invisible: float = 0.0,
        min_pt: float = MIN_PT,
        max_eta: float = MAX_ETA,
        places: int = MOST,
    ) -> None:
        for name, share in (("signal", signal), ("invisible", invisible)):
            if not 0 <= share <= 1:
                raise InputError(f"--{name} is a share from 0 to 1, but {share:g} was given.")
        if not 0 < min_pt < BEAM or not max_eta > 0:
            raise InputError(
                f"--min-pt is above 0 and below {BEAM:g} GeV, and --max-eta above 0, but {min_pt:g} and {max_eta:g} "
                "were given."
            )
        check_places(places, FEWEST_PLACES, "constituents")
        pythia.require()
        anti_kt.require()
        self.seed, self.signal, self.places = seed, signal, places
        self.min_pt, self.max_eta = min_pt, max_eta
        self.physics = {"qcd": QCD, "hidden_valley": hidden_valley(invisible)}
        self.settings: dict[str, Any] = {
            "signal": signal,
            "invisible": invisible,
            "min_pt": min_pt,
            "max_eta": max_eta,
            "size": places,
            "pythia": pythia.version(),
        }
        self.columns = COLUMNS
        self.about = About(
            domain="jet",
            bands=BANDS,
            units=BAND_UNITS,
            layout="particles",
            source="SIMULATED events, not recorded ones (Pythia 8; lookalike simulate jets)",
            license=LICENSE,
            survey={
                "jets": 2,
                "algorithm": "anti-kT",
                "radius": anti_kt.RADIUS,
                "name": "simulated",
                "simulated": True,
            },
            preprocess={"most": places},
        )

    def block(self, rows: NDArray[np.int64]) -> tuple[list[str], NDArray[np.float32], dict[str, NDArray[Any]]]:
        """Ids, constituents (n, P, 4) and catalog columns (n,) of some rows."""
        signal = Draws(self.seed, rows).uniform("label") < self.signal
        found: dict[int, Block] = {}
        tries = np.zeros(len(rows), np.int64)
        waiting = np.arange(len(rows))
        for attempt in range(TRIES):
            tries[waiting] += 1
            passed, kept = self._made(rows[waiting], signal[waiting], attempt)
            found |= {int(place): kept.objects(_only(kept, i)) for i, place in enumerate(waiting[passed])}
            waiting = waiting[~passed]
            if not len(waiting):
                break
        else:
            raise InputError(
                f"Two jets with pT > {self.min_pt:g} GeV and |η| < {self.max_eta:g} are made in {TRIES} tries, but "
                "none came out; give a smaller --min-pt or a larger --max-eta."
            )
        whole = _joined([found[place] for place in range(len(rows))])
        catalog = kinematics(whole, 2) | {"label": np.array(CLASSES)[signal.astype(int)], "tries": tries}
        ids = [f"sim{self.seed}-{row:07d}" for row in rows.tolist()]
        return ids, stored(whole, self.places, Cut(), 2 * ROOM), catalog

    def _made(self, rows: Ints, signal: NDArray[np.bool_], attempt: int) -> tuple[NDArray[np.bool_], Block]:
        """Which of the rows' events of this attempt pass (n,), and these as a detector sees their two leading jets."""
        seen = [self._seen(row, bool(is_signal), attempt) for row, is_signal in zip(rows.tolist(), signal, strict=True)]
        polar: Floats = np.concatenate(seen)  # (m, 3)
        counts = np.array([len(each) for each in seen], np.int64)
        block, two = anti_kt.leading_jets(Block(0, counts, *polar.T), anti_kt.RADIUS)
        block = measured(block, Draws(self.seed, rows[two]).uniform(f"resolution {attempt}", 2))
        jets = kinematics(block, 2)
        passing = jets["pt_2"] >= self.min_pt
        passing &= (np.abs(jets["eta"]) < self.max_eta) & (np.abs(jets["eta_2"]) < self.max_eta)
        two[two] = passing
        return two, block.objects(passing)

    def _seen(self, row: int, signal: bool, attempt: int) -> Floats:
        """pt, eta, phi (m, 3) of one event's visible particles, smeared in η and φ by N(0, Λ/pT)."""
        generator = collision(self.physics[CLASSES[signal]], self.seed, row, attempt)
        if generator is None:  # nothing is seen of it
            return np.zeros((0, 3))
        flat = with_angles(dict(zip(("px", "py", "pz"), pythia.visible(generator).T, strict=True)))
        polar = np.stack([flat[name] for name in ("pt", "eta", "phi")], axis=1)
        polar = polar[polar[:, 0] >= SOFTEST]
        shift = Draws(self.seed, np.array([row])).normal(f"directions {attempt}", len(polar), 2)[0]
        polar[:, 1:] += shift * (SMEARING.scale / polar[:, :1])
        polar[:, 2] = wrapped(polar[:, 2])
        return polar


def measured(block: Block, u: Floats) -> Block:
    """pT′ ~ N(pT, f(pT)) above 0 of each jet, its constituents all scaled alike, and the harder one then first.

    u : uniform numbers (n, 2) of the jets.
    """
    assert block.jet is not None
    jets = kinematics(block, 2)
    pt = np.stack([jets["pt"], jets["pt_2"]], axis=1)  # (n, 2)
    factor = measured_again(np.sqrt(RESOLUTION.constant**2 + RESOLUTION.stochastic**2 / pt), u)  # of f(pT)/pT
    first = (pt * factor).argmax(axis=1) if len(pt) else np.zeros(0, np.int64)
    scaled = block.pt * factor[block.of, block.jet]
    return replace(block, pt=scaled, jet=np.abs(block.jet - first[block.of]))


def _only(block: Block, place: int) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.arange(len(block)) == place
    return found


def _joined(blocks: list[Block]) -> Block:
    """Events one after the other."""
    pt, eta, phi, jet = (
        np.concatenate([getattr(each, name) for each in blocks]) for name in ("pt", "eta", "phi", "jet")
    )
    return Block(0, np.concatenate([each.counts for each in blocks]), pt, eta, phi, jet=jet)
