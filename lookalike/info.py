"""What any of our files or folders is, and what made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
from pydantic import TypeAdapter, ValidationError

from lookalike.about import CATALOG
from lookalike.augmentations.inputs import AnyInput
from lookalike.embeddings import KIND as EMBEDDINGS
from lookalike.embeddings import Embeddings
from lookalike.embeddings_folder import UNFINISHED_EMBEDDINGS, has_manifest
from lookalike.errors import CorruptError, InputError, NotFoundError
from lookalike.onnx_files import file_hash, read_about
from lookalike.provenance import checked_record, read_record, record_of
from lookalike.samples import KIND as SAMPLES
from lookalike.samples import Samples, read_kind
from lookalike.ssl.architectures import EncoderConfig

if TYPE_CHECKING:
    from lookalike.indexer.store import Index

ONNX = "lookalike ONNX export"
RECORD = "lookalike build record"
NOT_OURS = "not_ours"  # codes of errors
UNFINISHED_CHECKPOINT = "unfinished_checkpoint"
UNFINISHED = (UNFINISHED_EMBEDDINGS, UNFINISHED_CHECKPOINT)


def describe(path: Path) -> dict[str, Any]:
    """A plain description of a samples or embeddings file, a checkpoint, its ONNX export, an index or a build record.

    NotFoundError, InputError (NOT_OURS) where it is none of ours, CorruptError where it or its build record is damaged.
    """
    if not path.exists():
        raise NotFoundError(f"No such file or folder: {path}")
    description = _folder(path) if path.is_dir() else _file(path)
    record = read_record(path)
    if record is not None:
        description["made"] = record
    return description


def _file(path: Path) -> dict[str, Any]:
    if (made := record_of(path)) is not None:
        record = checked_record(path)
        if "command" not in record:  # other tools write a build.json too
            raise _foreign(path)
        return {"kind": RECORD, "of": made.name, "made": record, "current": _current(made)}
    if not h5py.is_hdf5(path):
        if path.suffix.lower() == ".onnx" and (about := read_about(path)) is not None:
            return _export(path, about)
        raise _foreign(path)
    kind = read_kind(path)
    if kind == SAMPLES:
        return _samples(Samples(path))
    if kind == EMBEDDINGS:
        return _embeddings(Embeddings(path))
    raise _foreign(path)


def _current(made: Path) -> bool | None:
    """Whether a build record is of what is there now under its name; None where nothing is."""
    return read_record(made) is not None if made.exists() else None


def _samples(samples: Samples) -> dict[str, Any]:
    columns = {name: f"{c.description} [{c.unit}]" if c.unit else c.description for name, c in samples.columns.items()}
    return {
        "kind": SAMPLES,
        "objects": len(samples),
        samples.layout: _stored(samples),
        "content_hash": samples.content_hash,
        **samples.about.model_dump(mode="json"),
        "columns": columns,
    }


def _stored(samples: Samples) -> str:
    if samples.layout == CATALOG:
        return "ids and columns alone"
    return f"{'×'.join(map(str, samples.shape))} {samples.dtype}"


def _embeddings(embeddings: Embeddings) -> dict[str, Any]:
    return {
        "kind": EMBEDDINGS,
        "objects": len(embeddings),
        "dimensions": embeddings.dimensions,
        "dtype": str(embeddings.vectors.dtype),
        "content_hash": embeddings.content_hash,
        "made_from": embeddings.made_from,
        **({"shards": [path.name for path in embeddings.shards]} if embeddings.path.is_dir() else {}),
    }


def _export(path: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    try:
        encoder = EncoderConfig.checked(about["encoder"])
        preprocess = TypeAdapter(AnyInput).validate_python(about["preprocess"])
        texts = {name: str(about[name]) for name in ("layer", "domain")}
        checkpoint = str(about["content_hash"])
    except (KeyError, InputError, ValidationError):
        raise CorruptError(f"{path} does not say in full what it is; export it again.") from None
    return {
        "kind": ONNX,
        **texts,
        "encoder": encoder.model_dump(mode="json"),
        "preprocess": preprocess.model_dump(mode="json"),
        "content_hash": file_hash(path),
        "made_from": {"checkpoint": checkpoint},
    }


def _folder(path: Path) -> dict[str, Any]:
    if (path / "CURRENT").exists():
        from lookalike.indexer.index import Index

        index = Index(path)
        record = {"made": made} if (made := read_record(index.path)) else {}  # each version has its own
        manifest = index.manifest.model_dump(mode="json")
        return {"kind": "lookalike index", "version": index.version, **manifest, **_extras(index), **record}
    if (path / "model.safetensors").exists():
        from lookalike.ssl.description import CONFIG, read_config, wait_for_replacement

        wait_for_replacement(path)
        if not (path / CONFIG).exists():
            raise NotFoundError(
                f"{path} holds weights and no {CONFIG}, which comes after them: it is being written or copied, or that "
                "was cut off.",
                code=UNFINISHED_CHECKPOINT,
            )
        return read_config(path).model_dump(mode="json")
    if has_manifest(path):
        return _embeddings(Embeddings(path))
    raise _foreign(path)


def _extras(index: Index) -> dict[str, Any]:
    """What a version has besides its lists: audit, sky index, approximate stage and rounded vectors, None for none.

    One that is damaged or of another index says only what its `problem` is, since the lists do not depend on it.
    """
    from lookalike.indexer import approximate_report
    from lookalike.indexer.audit_report import kept
    from lookalike.indexer.sky import SkyIndex

    found: dict[str, Any] = {"audit": None, "sky": None, "rounded": None}
    try:
        found["approximate"] = approximate_report.kept(index.folder, index.version, index.manifest.content_hash)
    except CorruptError as error:
        found["approximate"] = {"problem": error.message}
    try:
        report = kept(index.folder, index.version, index.manifest.content_hash)
        found["audit"] = None if report is None else report.to_json()
    except CorruptError as error:
        found["audit"] = {"problem": error.message}
    try:
        found["rounded"] = _rounded(index)
    except CorruptError as error:
        found["rounded"] = {"problem": error.message}
    try:
        about = SkyIndex.of(index).about
        placed = about.objects - about.without_position
        found["sky"] = {"objects": placed, "without_position": about.without_position}
    except NotFoundError:
        pass
    except (CorruptError, InputError) as error:
        found["sky"] = {"problem": error.message}
    return found


def _rounded(index: Index) -> dict[str, Any] | None:
    from lookalike.indexer.rounded import Rounded, rounded_bytes

    rounded = Rounded.of(index)
    if rounded is None:
        return None
    size = rounded_bytes(rounded.about.objects, rounded.about.dimensions)
    return {"bytes": size, "largest_error": rounded.about.largest_error}


def _foreign(path: Path) -> InputError:
    return InputError(
        f"{path} is not one of our files. Choices: samples, embeddings, a checkpoint, its ONNX export, an index "
        "folder or a build record.",
        code=NOT_OURS,
    )
