"""What Pythia is told to make: di-jets of QCD, and of a Hidden Valley behind a heavy Z_V.

The Hidden Valley is QCD-like with three colors and three flavors, whose numbers are those of F.-Y. Hsieh's note (Table
13): m_ρ follows from m_π by the relation of Albouy et al. 2022 (arXiv:2203.09503), √(5.76 Λ² + 1.5 m_π²).
"""

from __future__ import annotations

from itertools import combinations_with_replacement

from lookalike.simulate.collisions import COLLIDER

FLAVORS = (1, 2, 3)
Z_MASS, Z_REACH = 5500.0, 500.0  # GeV: how far from its mass the Z_V is made
LAMBDA, PION, RHO, QUARK = 10.0, 10.0, 26.944, 10.3306  # GeV
CHARM, NEUTRINO = 4, 12

QCD = (*COLLIDER, "HardQCD:all = on", "PhaseSpace:pTHatMin = 700", "PhaseSpace:mHatMin = 3000")


def hidden_valley(invisible: float = 0.0) -> tuple[str, ...]:
    """f f̄ → Z_V → dark quarks, whose vector mesons become two dark pions, and those c c̄.

    invisible : share of the dark pions that no detector sees; they decay to neutrinos.
    """
    production = (
        "HiddenValley:ffbar2Zv = on",
        f"4900023:m0 = {Z_MASS:g}",
        f"4900023:mMin = {Z_MASS - Z_REACH:g}",
        f"4900023:mMax = {Z_MASS + Z_REACH:g}",
        "4900023:onMode = off",
        "4900023:onIfAny = 4900101 4900102 4900103",
    )
    shower = (
        "HiddenValley:Ngauge = 3",
        "HiddenValley:nFlav = 3",
        "HiddenValley:FSR = on",
        "HiddenValley:alphaOrder = 1",
        "HiddenValley:setLambda = on",
        f"HiddenValley:Lambda = {LAMBDA:g}",
        f"HiddenValley:pTminFSR = {1.1 * LAMBDA:g}",  # the least that Pythia allows
    )
    hadrons = (
        "HiddenValley:fragment = on",
        "HiddenValley:separateFlav = on",
        "HiddenValley:probVector = 0.5",  # 3/4 would be of mesons of equal mass
        *(f"490010{flavor}:m0 = {QUARK:g}" for flavor in FLAVORS),
        *(line for i, j in combinations_with_replacement(FLAVORS, 2) for line in _mesons(i, j, invisible)),
    )
    return (*COLLIDER, *production, *shower, *hadrons)


def _mesons(j: int, i: int, invisible: float) -> list[str]:
    """Masses and decays of the pseudoscalar and the vector of flavors i ≥ j; ρ_ij → π_ik π_kj for every flavor k."""
    pion, rho = f"4900{i}{j}1", f"4900{i}{j}3"
    lines = [f"{pion}:m0 = {PION:g}", f"{rho}:m0 = {RHO:g}"]
    seen = {f"{CHARM} -{CHARM}": 1 - invisible, f"{NEUTRINO} -{NEUTRINO}": invisible}
    lines += _channels(pion, {products: (share, 91) for products, share in seen.items() if share})
    pairs = [f"{_pion(i, k)} {_pion(k, j)}" for k in FLAVORS if not (i == j == k)]  # no spin 1 to two equal bosons
    return lines + _channels(rho, {pair: (1 / len(pairs), 0) for pair in pairs})


def _pion(quark: int, antiquark: int) -> str:
    """Pythia's code of a pseudoscalar of these flavors, below 0 of the antiparticle."""
    sign, (high, low) = "-" if quark < antiquark else "", (max(quark, antiquark), min(quark, antiquark))
    return f"{sign}4900{high}{low}1"


def _channels(particle: str, products: dict[str, tuple[float, int]]) -> list[str]:
    """The decays of a particle: their shares, and how Pythia is to arrange the products (its meMode)."""
    words = ["oneChannel", *["addChannel"] * (len(products) - 1)]
    return [
        f"{particle}:{word} = 1 {share:.6g} {mode} {made}"
        for word, (made, (share, mode)) in zip(words, products.items(), strict=True)
    ]
