"""Which of a file's named arrays are the constituents' momenta and angles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lookalike.errors import InputError

POLAR, CARTESIAN = ("pt", "eta", "phi"), ("px", "py", "pz")
QUANTITIES = (*POLAR, *CARTESIAN, "jet")


def in_order(bands: Sequence[str], width: int | None, where: str) -> dict[str, int]:
    """Where each quantity stands among the numbers of a constituent, by the names given in stored order.

    InputError where they are not as many as there are numbers, or do not name pt, eta, phi (or px, py, pz).
    """
    if not bands:
        raise InputError(
            f"{where} has {width} numbers of each constituent without names; name them in stored order with --bands, "
            "for example --bands pt,eta,phi."
        )
    if width is not None and len(bands) != width:
        raise InputError(f"{where} has {width} numbers of each constituent, but --bands names {len(bands)}.")
    found = {quantity(name): place for place, name in enumerate(bands)}
    places = {name: place for name, place in found.items() if name in QUANTITIES}
    _require(places, where, bands)
    return places


def among(names: Iterable[str], bands: Sequence[str], where: str) -> dict[str, str]:
    """The array of each quantity among a file's names: those given, or the only ones that end in pt, eta and phi.

    `part_pt`, `part_eta`, `part_phi` are found by themselves, as are `px`, `py`, `pz`; InputError where there are
    none, or several.
    """
    names = list(names)
    if bands:
        missing = [name for name in bands if name not in names]
        if missing:
            raise InputError(f"{where} has no array {missing[0]!r} of each constituent; it has: {_listed(names)}.")
        found = {quantity(name): name for name in bands}
        _require(found, where, bands)
        return {name: array for name, array in found.items() if name in QUANTITIES}
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        if quantity(name) in QUANTITIES:
            groups.setdefault(name[: len(name) - len(quantity(name))], {})[quantity(name)] = name
    whole = {prefix: group for prefix, group in groups.items() if _complete(group)}
    if len(whole) != 1:
        which = "several arrays" if whole else "no arrays"
        # Of hundreds of names those that may be meant come first: one of each whole group.
        likely = [next(iter(group.values())) for group in whole.values()]
        raise InputError(
            f"{where} has {which} of pt, eta, phi (or px, py, pz) of each constituent; name them with --bands, for "
            f"example --bands part_pt,part_eta,part_phi. It has: {_listed(likely or names)}."
        )
    return next(iter(whole.values()))


def quantity(name: str) -> str:
    """The last word of a name: part_pt, constituents.pt and pT all are pt."""
    return name.lower().replace(".", "_").replace("/", "_").rsplit("_", 1)[-1]


def _complete(found: Mapping[str, object]) -> bool:
    return set(POLAR) <= found.keys() or set(CARTESIAN) <= found.keys()


def _require(found: Mapping[str, object], where: str, bands: Sequence[str]) -> None:
    if not _complete(found):
        raise InputError(
            f"A constituent has pt, eta and phi, or px, py and pz, but for {where} --bands {','.join(bands)} was given."
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") if names else "none"
