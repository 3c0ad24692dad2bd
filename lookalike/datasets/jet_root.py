"""Jets in ROOT trees, read by uproot: jagged branches of constituents, or NanoAOD with its jets' particle-flow lists.

- `FatJetPFCands_jetIdx` and `FatJetPFCands_pFCandsIdx` beside `PFCands_pt`, `PFCands_eta`, `PFCands_phi` (PFNano; else
  those of `Jet`): the constituents of the two leading jets of each event, which are listed by falling pT.
- branches of each quantity, such as `part_pt`, named by --bands where there are several; --mode events clusters them.
Numbers of each event are catalog columns; of more than COLUMNS, run, luminosityBlock and event alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.about import id_from_name
from lookalike.datasets.contract import Ledger, Options, listed
from lookalike.datasets.jet_blocks import Block, Part, as_jet, reading, with_angles
from lookalike.datasets.jet_names import among
from lookalike.datasets.table import clean_names, plain_values
from lookalike.errors import InputError
from lookalike.installing import install_extra
from lookalike.samples import Column

ROWS = 2000  # events read at once
COLUMNS = 64
EVENT = ("run", "luminosityBlock", "event")
NUMBERS = {"float", "double", "bool"} | {f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)}
COLLECTIONS = ("FatJet", "Jet")  # whose lists of particle-flow candidates PFNano has


def parts(path: Path, options: Options, ledger: Ledger) -> list[Part]:
    """The one part of a ROOT file's tree; InputError where it holds no constituents, or uproot is missing."""
    with reading(path, "ROOT"), _opened(path) as file:
        name = _tree(path, file)
        tree = file[name]
        n, branches = int(tree.num_entries), {branch.name: str(branch.typename) for branch in tree.branches}
    if not n:
        raise InputError(f"{path} holds no events: its tree {name!r} is empty.")
    scalars = [branch for branch, kind in branches.items() if _is_scalar(kind)]
    kept = scalars if len(scalars) <= COLUMNS else [branch for branch in EVENT if branch in scalars]
    if len(kept) < len(scalars):
        ledger.note(f"Of {len(scalars):,} numbers of each event in {path.name}, {', '.join(kept) or 'none'} are kept.")
    columns = {name: branch for branch, name in clean_names(kept, str(path)).items()}
    lists = {branch for branch, kind in branches.items() if _is_list(kind)}
    collection = next((each for each in COLLECTIONS if _pf_branches(each) <= lists), None)
    if collection is None and not options.bands and "Jet_pt" in lists:
        raise InputError(
            f"{path} is NanoAOD without the lists of its jets' constituents ({sorted(_pf_branches('FatJet'))[0]} and "
            "others, which PFNano has); --mode events with --bands clusters another collection, for example "
            "--bands GenPart_pt,GenPart_eta,GenPart_phi."
        )
    if options.bands or options.mode == "events" or collection is None:
        chosen = among(sorted(lists), options.bands, f"{path}:{name}")
        collection = None
    else:
        chosen = {key: f"PFCands_{key}" for key in ("pt", "eta", "phi")}
        ledger.note(f"The constituents of the two leading jets of {collection} are taken, as {path.name} lists them.")

    def blocks() -> Iterator[Block]:
        first = 0
        wanted = {*chosen.values(), *columns.values(), *(_pf_branches(collection) if collection else ())}
        with reading(path, "ROOT"), _opened(path) as again:
            for arrays in again[name].iterate(sorted(wanted), step_size=ROWS, library="ak"):
                own = {key: _values(arrays[branch]) for key, branch in columns.items()}
                yield _block(path, first, arrays, chosen, collection, own)
                first += len(arrays)

    events = options.mode == "events"
    return [Part(id_from_name(path.name), str(path), n, None, blocks, events, columns=dict.fromkeys(columns, Column()))]


def _opened(path: Path) -> Any:
    try:
        import awkward  # noqa: F401
        import uproot
    except ImportError:
        raise InputError(f"ROOT files are read by uproot, which is not installed: {install_extra('hep')}.") from None
    return uproot.open(path)


def _tree(path: Path, file: Any) -> str:
    """The tree `Events`, or the only one."""
    trees = sorted({str(key).split(";")[0] for key, kind in file.classnames().items() if kind == "TTree"})
    if "Events" in trees:
        return "Events"
    if len(trees) != 1:
        others = [f"{str(key).split(';')[0]} ({kind})" for key, kind in file.classnames().items() if kind != "TTree"]
        raise InputError(
            f"{path} needs a TTree `Events`, or just one TTree; it has: {listed(trees or others) or 'nothing'}."
        )
    return trees[0]


def _pf_branches(collection: str) -> set[str]:
    return {
        f"{collection}PFCands_jetIdx",
        f"{collection}PFCands_pFCandsIdx",
        "PFCands_pt",
        "PFCands_eta",
        "PFCands_phi",
    }


def _is_scalar(kind: str) -> bool:
    return kind in NUMBERS


def _is_list(kind: str) -> bool:
    """`float[]` of a counted branch, or `std::vector<float>`."""
    inner = kind.removeprefix("std::vector<").removesuffix(">") if kind.startswith("std::") else kind.removesuffix("[]")
    return inner != kind and inner in NUMBERS


def _values(column: Any) -> NDArray[Any]:
    found = plain_values(np.asarray(column))
    assert found is not None, "only numbers are columns"
    return found


def _block(
    path: Path, first: int, arrays: Any, chosen: dict[str, str], collection: str | None, own: dict[str, NDArray[Any]]
) -> Block:
    import awkward as ak

    picked = {key: arrays[branch] for key, branch in chosen.items()}
    jet = None
    if collection is not None:
        of = arrays[f"{collection}PFCands_jetIdx"]
        which, of = arrays[f"{collection}PFCands_pFCandsIdx"][(of == 0) | (of == 1)], of[(of == 0) | (of == 1)]
        picked = {key: values[which] for key, values in picked.items()}
        jet = np.asarray(ak.flatten(of), np.int64)
        if ak.any(which < 0):  # which would count from the end
            row = first + int(np.flatnonzero(np.asarray(ak.any(which < 0, axis=1)))[0])
            raise InputError(f"{path} row {row}: {collection}PFCands_pFCandsIdx is below 0.", code="bad_file")
    counts = np.asarray(ak.num(next(iter(picked.values()))), np.int64)
    for key, values in picked.items():
        if (odd := np.flatnonzero(np.asarray(ak.num(values)) != counts)).size:
            raise InputError(
                f"{path} row {first + int(odd[0])}: {chosen[key]} has another number of values than the others.",
                code="bad_file",
            )
    flat = with_angles({key: np.asarray(ak.flatten(values), np.float64) for key, values in picked.items()})
    if "jet" in flat:
        jet = as_jet(flat["jet"])
    return Block(first, counts, flat["pt"], flat["eta"], flat["phi"], jet=jet, columns=own)
