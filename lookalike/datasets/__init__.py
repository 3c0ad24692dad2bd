"""One file per source format; each turns its files into samples.h5.

`SOURCES` names them all and `ingest` is the one way in. A new source is a module with a function
`ingest(files, out, options, ledger)` and one entry here. Nothing heavy is imported before a source runs.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookalike.datasets.contract import ROW, IngestReport, Ledger, Options, Source, left_out_as, listed
from lookalike.datasets.inputs import changes, fingerprints, source_files
from lookalike.errors import CorruptError, InputError, unknown
from lookalike.files import file_output, reading_order
from lookalike.hints import refuse_foreign_name
from lookalike.wording import counted

if TYPE_CHECKING:
    from lookalike.samples import Samples

__all__ = ["DOMAINS", "SOURCES", "IngestReport", "Source", "ingest"]

DOMAINS = ("galaxy", "image", "jet", "event", "track")
PICTURES = frozenset({"galaxy", "image"})  # domains that take the same arrays

PARTICLE_BYTES, AT_ONCE, BLOCK_LIMIT = 40, 20_000, 8 * 1024**3  # at most: numbers of a particle, objects, bytes

ARRAYS = frozenset(
    {
        "catalog",
        "id_column",
        "size",
        "resize",
        "skip_bad",
        "bands",
        "unit",
        "pixel_scale",
        "permute",
        "array",
        "bands_last",
    }
)

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            "hubble",
            "galaxies of the Hubble eXtreme Deep Field picture that scikit-image ships; takes no files",
            "galaxy",
            frozenset({"size"}),
        ),
        Source(
            "legacysurvey",
            "DESI Legacy Surveys cutouts in g, r, z with their catalog, as published in HDF5",
            "galaxy",
            frozenset({"id_column", "size", "skip_bad"}),
        ),
        Source(
            "images",
            "folders or files of PNG and JPEG pictures",
            "image",
            frozenset({"catalog", "id_column", "size", "crop", "skip_bad", "pixel_scale", "permute"}),
        ),
        Source(
            "fits",
            "FITS cutouts (extensions or cubes), or large images cut at a catalog's positions",
            "galaxy",
            frozenset({"catalog", "id_column", "size", "skip_bad", "bands", "unit", "pixel_scale", "mode"}),
        ),
        Source(
            "numpy",
            "(N, C, H, W) arrays in .npy or .npz files",
            "image",
            ARRAYS,
            module="numpy_arrays",
        ),
        Source("hdf5", "(N, C, H, W) data sets in HDF5 files", "image", ARRAYS),
        Source(
            "idx",
            "idx files of 8-bit gray pictures, as of MNIST, gzipped or not, with their labels",
            "image",
            frozenset({"catalog", "id_column", "size", "resize", "bands", "pixel_scale", "labels", "permute"}),
        ),
        Source(
            "jets",
            "jets' constituents in HDF5, NumPy, Parquet, ROOT, HepMC or LHE; LHC Olympics, JetNet, EnergyFlow layouts",
            "jet",
            frozenset({"id_column", "size", "bands", "unit", "mode", "radius", "min_pt", "max_eta"}),
        ),
        Source(
            "higgsml",
            "CSV files of the ATLAS Higgs challenge of 2014, the contest's or the open data's",
            "event",
            frozenset({"layout", "skip_bad", "unit"}),
        ),
        Source(
            "events",
            "events in Parquet, CSV or ROOT files, by a map of their columns; NanoAOD needs none",
            "event",
            frozenset({"columns", "id_column", "size", "skip_bad", "unit", "overlaps"}),
        ),
        Source(
            "trackml",
            "hits, cells, particles and truth of the TrackML challenge's events, in folders of CSV files",
            "track",
            frozenset({"sample", "size", "skip_bad", "unit"}),
        ),
    )
}


def ingest(
    source: str,
    files: Sequence[Path],
    out: Path,
    *,
    domain: str | None = None,
    catalog: Path | None = None,
    id_column: str | None = None,
    size: int | None = None,
    crop: int | None = None,
    resize: int | None = None,
    skip_bad: bool = False,
    bands: Sequence[str] | None = None,
    unit: str | None = None,
    pixel_scale: float | None = None,
    mode: str | None = None,
    radius: float | None = None,
    min_pt: float | None = None,
    max_eta: float | None = None,
    layout: str | None = None,
    columns: Path | None = None,
    overlaps: str | None = None,
    sample: str | None = None,
    labels: Sequence[Path] | None = None,
    permute: int | None = None,
    array: str | None = None,
    bands_last: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> IngestReport:
    """Turn source files into one samples file, with its build record beside it.

    source      : a name in SOURCES.
    files       : what to read; folders too for `images` and `trackml`, none for `hubble`. Read in natural order.
    domain      : field whose augmentations apply, one of DOMAINS; each source has a default.
    catalog     : table of the objects (CSV, Parquet, FITS, VOTable, ECSV); every column is kept.
    id_column   : column to make ids from, several joined by `:`; events: `row` numbers the rows.
    size        : side in px, to which `images` are resized (the shorter side, then the center is kept) and all other
                  pictures cropped about their center, never resampled; jets, events, trackml: most particles stored.
    crop        : images only: keep so many px around each picture's center, before resizing.
    resize      : numpy, hdf5, idx: side in px to which the whole square picture (or what `size` left of it) is resized.
    skip_bad    : leave out unreadable or odd files, counted and listed, where they would be an error.
    bands, unit : names and flux unit of the bands, where the files do not say; jets: names of a constituent's numbers,
                  and the unit of momenta.
    pixel_scale : arcsec/px, where the files do not say.
    mode        : fits: `cutouts` or `positions`; jets: `jets` or `events`; found out from the files by default.
    radius, min_pt, max_eta : jets, of events that are clustered: R of anti-kT, and what the two leading jets must pass
                  (GeV; |η|).
    layout      : higgsml only: `features` (the default) or `particles`.
    columns     : events only: TOML or JSON file that says what the columns are.
    overlaps    : events only: `keep` (the default) or `drop` objects that are listed twice, as an electron and a jet.
    sample      : trackml only: `hits` (the default) or `tracks`.
    labels      : idx only: the file of labels of each file, in the same order.
    permute     : shuffle the pixels of every picture alike, by this seed; uploaded pictures get the same.
    array       : numpy (.npz) and hdf5: name of the array that holds the pictures (default: images).
    bands_last  : numpy and hdf5: the arrays are (N, H, W, C).
    overwrite   : replace a file `out` of other content, which would be an error.
    quiet       : no progress on standard error.

    Raises InputError for an unknown source or domain, an option the source does not take, an `out` that is read or
    named like what a source reads, and whatever is wrong in the files; NotFoundError for a missing file. Then `out`
    is as it was before.
    """
    from lookalike.provenance import build_record, recorded_hash, refuse_input, write_record
    from lookalike.samples import Samples

    if source not in SOURCES:
        raise unknown("source", source, SOURCES)
    described = SOURCES[source]
    chosen = domain or described.domain
    if chosen not in DOMAINS:
        raise unknown("domain", chosen, DOMAINS)
    if chosen != described.domain and not {chosen, described.domain} <= PICTURES:
        raise InputError(
            f"`ingest {source}` makes samples of the domain {described.domain}, but --domain {chosen} was given."
        )
    given = {
        "catalog": Path(catalog) if catalog is not None else None,
        "id_column": id_column,
        "size": size,
        "crop": crop,
        "resize": resize,
        "skip_bad": skip_bad or None,
        "bands": tuple(bands) if bands is not None else None,
        "unit": unit,
        "pixel_scale": pixel_scale,
        "mode": mode,
        "radius": radius,
        "min_pt": min_pt,
        "max_eta": max_eta,
        "layout": layout,
        "columns": Path(columns) if columns is not None else None,
        "overlaps": overlaps,
        "sample": sample,
        "labels": tuple(Path(file) for file in labels) if labels else None,
        "permute": permute,
        "array": array,
        "bands_last": bands_last or None,
    }
    options = Options(domain=chosen, overwrite=overwrite, quiet=quiet, **described.accepted(given))
    ledger = Ledger(skip_bad=options.skip_bad)
    paths = [Path(file) for file in files]
    _check_sides(options)
    out = Path(out)
    file_output(out)
    settings = {
        name: _plain(value)
        for name, value in ({"source": source, "domain": chosen} | given).items()
        if value is not None
    }
    if options.permute is not None and options.permute < 0:
        raise InputError(f"The seed of a permutation is at least 0, but {options.permute} was given.")
    tables = (path for path in (options.catalog, options.columns) if path)
    inputs = [*sorted(paths, key=reading_order), *options.labels, *tables]
    refuse_input(out, inputs)
    _refuse_inside(out, inputs, source)
    refuse_foreign_name(out)
    before = recorded_hash(out) if out.exists() else None
    if out.exists() and not overwrite:
        _refuse_other(out, settings, inputs, source)
    read = importlib.import_module(f"lookalike.datasets.{described.module or source}").ingest
    try:
        read(paths, out, options, ledger)
    except InputError as error:
        raise _with_ways_out(error, described, ledger) from None
    made = Samples(out)
    report = _report(made, out, ledger)
    record = build_record(
        f"ingest {source}", settings=settings, inputs=fingerprints(inputs, source), content_hash=made.content_hash
    )
    left_out = {
        "skipped": len(report.skipped),
        "left_out": [list(each) for each in report.skipped],
        "counts": report.counts,
        "missing": report.missing,
    }
    write_record(out, record | left_out | {"notes": list(report.notes)})
    if made.content_hash == before:
        report.notes.append(f"{out} held exactly these objects already.")
    return report


def _check_sides(options: Options) -> None:
    """InputError for a side or a number of particles that nothing can be made of."""
    if options.domain not in PICTURES:
        if options.size is not None and options.size < 1:
            raise InputError(f"At least 1 particle of each object is stored, but --size {options.size} was given.")
        if (needed := (options.size or 0) * PARTICLE_BYTES * AT_ONCE) > BLOCK_LIMIT:
            raise InputError(
                f"Objects are stored {AT_ONCE:,} at a time, in at most {BLOCK_LIMIT:,} bytes, but --size "
                f"{options.size} needs {needed:,}."
            )
        return
    for flag in ("size", "crop", "resize"):
        side = getattr(options, flag)
        if side is not None and side < 1:
            raise InputError(f"Stored pictures are at least 1 px wide, but {flag} {side} was given.")


def _with_ways_out(error: InputError, source: Source, ledger: Ledger) -> InputError:
    """What the writer of samples refuses, with what only a source knows: what was left out, and other ids to have."""
    text = error.message
    if error.code == "duplicate_id" and "id_column" in source.options:
        text += " --id-column names what else makes an id"
        text += f", or {ROW!r}, which numbers the rows." if source.domain == "event" else "."
    if error.code == "no_objects":
        left_out = [f"{number:,} {what}" for what, number in ledger.counts.items() if number]
        first = [f"The first, {left_out_as(*ledger.skipped[0])}"] if ledger.skipped else []
        text = " ".join([text, *(f"{each.rstrip('.')}." for each in (listed(left_out), *first) if each)])
    return InputError(text, code=error.code) if text != error.message else error


def _plain(value: Any) -> Any:
    """A setting as the build record holds it."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _report(made: Samples, out: Path, ledger: Ledger) -> IngestReport:
    missing = made.missing()
    if any(missing.values()):
        names = listed(f"{name} {number:,}" for name, number in missing.items() if number)
        ledger.note(f"Without a value (NaN or blank), of {counted(len(made), 'object')}: {names}.")
    if ledger.masked:
        have = "has" if ledger.masked == 1 else "have"
        ledger.note(
            f"{ledger.masked:,} of {counted(len(made), 'object')} {have} masked or NaN pixels, which are stored as 0; "
            "the column masked_fraction says how many."
        )
    return IngestReport(
        out,
        len(made),
        made.content_hash,
        list(ledger.skipped),
        {what: number for what, number in ledger.counts.items() if number},
        missing,
        list(ledger.notes),
        frozenset(ledger.told),
    )


def _refuse_inside(out: Path, inputs: Sequence[Path], source: str) -> None:
    """InputError where `out` is one of the files that would be read from a folder."""
    target = out.resolve()
    if not target.exists():
        return
    for folder in inputs:
        for file in source_files(folder.resolve(), source) if folder.is_dir() else ():
            if file == target or (file.is_symlink() and file.resolve() == target):
                raise InputError(
                    f"{out} is read here, as part of {folder}, and cannot be written; choose another --out."
                )


def _refuse_other(out: Path, settings: dict[str, Any], inputs: Sequence[Path], source: str) -> None:
    """InputError at once where `out` holds something made otherwise than now asked for, and would be lost.

    The same files may hold something else by now: whether the content is the same is seen when it is written.
    """
    from lookalike.provenance import WAYS_OUT, read_record, recorded_hash

    if recorded_hash(out) is None:
        raise InputError(f"{out} is there already and is no file of ours. {WAYS_OUT}")
    try:
        record = read_record(out)
    except CorruptError:  # it tells nothing, as none would
        record = None
    if record is None or not all(path.exists() for path in inputs):
        return
    then, now = record.get("settings", {}), json.loads(json.dumps(settings))
    changed = [
        name
        for name in dict.fromkeys((*now, *then))
        if now.get(name) != then.get(name) and name not in ("catalog", "labels")
    ]
    how = [f"with other options ({', '.join(changed)})"] if changed else []
    if other := changes(record.get("inputs", {}), fingerprints(inputs, source)):
        how.append(f"from other files ({listed(other, 3)})")
    if how:
        raise InputError(f"{out} is there already, made {' and '.join(how)}. {WAYS_OUT}")
