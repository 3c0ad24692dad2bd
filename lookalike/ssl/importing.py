"""Encoders trained elsewhere, made into checkpoints of ours: weights only, read in a process of their own.

The file says what the network is, never what it was fed: how stored pixels become its input is the caller's to
say, in full.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lookalike
from lookalike.augmentations import get_domain
from lookalike.augmentations.preprocess import Preprocess
from lookalike.config import read_settings
from lookalike.errors import InputError, unknown
from lookalike.files import atomic_folder, existing_files, lock
from lookalike.provenance import build_record, write_record
from lookalike.ssl.weight_files import RefusedError, checked_size
from lookalike.ssl.weights_child import REPORT, TENSORS

if TYPE_CHECKING:
    from lookalike.ssl.layouts import Recognized

TIMEOUT = 300  # seconds in all; the child itself may compute for weights_child.SECONDS
ALWAYS = ("kind", "size", "bands", "dtype", "unit", "pixel_scale")
OF_KIND = {"lupton": ("m", "Q", "scales"), "scaled": ("divisor", "mean", "std"), "flux": ()}
UNKNOWN = "unknown"  # as a pixel scale; TOML has no null


@dataclass(frozen=True)
class ImportReport:
    """What was imported.

    encoder, channels, small_stem, dimensions, projection : as inferred; projection is None without a trained head.
    format, prefix, head : how the file is written, what the encoder's keys begin with, and the head's layout.
    unused  : keys of the file that went nowhere; missing : our names it has nothing for.
    skipped : what lies beside the weights, and objects of other packages, none of which was looked up.
    """

    out: str
    encoder: str
    channels: int
    small_stem: bool
    dimensions: int
    projection: int | None
    format: str
    prefix: str
    head: str
    unused: list[str]
    missing: list[str]
    skipped: list[str]
    content_hash: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def import_checkpoint(
    file: Path, out: Path, preprocess: Preprocess, domain: str, *, prefix: str | None = None
) -> ImportReport:
    """Make the encoder in a weight file into the checkpoint folder `out`.

    file       : what torch.save wrote (either format) or safetensors, in a layout of `layouts`.
    preprocess : how stored pixels become the encoder's input; `read_preprocess` makes one.
    domain     : of the data the encoder is for.
    prefix     : what the encoder's keys begin with, where several networks could be meant.

    InputError where the file is refused, does not hold a whole encoder, or `out` exists; nothing is written then.
    """
    from lookalike.ssl.checkpoint import CheckpointConfig, load_encoder, save_encoder
    from lookalike.ssl.encoders import Encoder

    file = existing_files([file])[0]
    get_domain(domain)
    with lock(out):
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise InputError(f"A new folder is written here, but {out} exists; choose another --out.")
        digest = file_digest(file)
        found, told = find_encoder(file, prefix)
        if found.config.channels != len(preprocess.bands):
            raise InputError(
                f"The encoder in {file} takes {found.config.channels} bands, but {len(preprocess.bands)} were given "
                f"({', '.join(preprocess.bands)})."
            )
        encoder = Encoder(found.config)
        encoder.load_state_dict(found.state)
        config = CheckpointConfig(
            encoder=found.config,
            preprocess=preprocess,
            domain=domain,
            bands=preprocess.bands,
            train={"imported": {"head": found.head}},
        )
        with atomic_folder(out) as folder:
            saved = save_encoder(folder, encoder, config)
            settings = {"prefix": found.prefix, "format": told["format"], "head": found.head}
            write_record(folder, build_record("checkpoint import", settings=settings, inputs={file.name: digest}))
            load_encoder(folder)  # what every reader will check
    return ImportReport(
        out=str(out),
        encoder=found.config.name,
        channels=found.config.channels,
        small_stem=found.config.small_stem,
        dimensions=encoder.dimensions,
        projection=None if found.head == "none" else found.config.projection,
        format=told["format"],
        prefix=found.prefix,
        head=found.head,
        unused=sorted({*found.unused, *told["unread"]}),
        missing=found.missing,
        skipped=[*told["outside"], *told["foreign"]],
        content_hash=saved.content_hash,
    )


def find_encoder(file: Path, prefix: str | None = None) -> tuple[Recognized, dict[str, Any]]:
    """The encoder in a weight file, and the report of the process that read it; InputError where it is refused."""
    from lookalike.ssl.layouts import recognize

    tensors, told = read_tensors_apart(file)
    return recognize(tensors, prefix, unread=told["unread"]), told


def read_tensors_apart(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors of a weight file, read by `weights_child`, and its report; InputError where it refused."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # -P keeps the current folder out of the child's path; the package is found where this process found it.
        command = [sys.executable, "-P", "-m", "lookalike.ssl.weights_child", str(file.resolve()), str(folder)]
        package = str(Path(lookalike.__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        null = subprocess.DEVNULL
        try:
            done = subprocess.run(
                command, env=environment, stdin=null, stdout=null, stderr=null, timeout=TIMEOUT, check=False
            )
            report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
            if done.returncode or "refused" in report:
                raise _refused(file, report.get("refused", f"reading it ended with {done.returncode}"))
            return load_file(folder / TENSORS), report
        except subprocess.TimeoutExpired:
            raise _refused(file, f"reading it took more than {TIMEOUT} s") from None
        except FileNotFoundError:  # no report: the process was killed, or met what it does not expect
            raise _refused(file, f"the process that read it ended with {done.returncode}") from None
        except (SafetensorError, ValueError, OSError) as error:
            raise _refused(file, f"what was read of it cannot be used ({error})") from None


def _refused(file: Path, reason: str) -> InputError:
    return InputError(f"{file} is refused: {reason}.", code="bad_file")


def file_digest(file: Path) -> str:
    """SHA-256 of a weight file's bytes; InputError where it is larger than any is read."""
    try:
        checked_size(file)  # before every byte of it is read
    except RefusedError as error:
        raise _refused(file, str(error)) from None
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_preprocess(given: Sequence[str]) -> Preprocess:
    """The preprocessing that JSON or TOML files and `key=value` texts describe, later ones over earlier.

    Every number that decides the encoder's input must be given: `ALWAYS`, and those of its kind (`OF_KIND`); `unit=`
    says that there is none and `pixel_scale=unknown` that it is not known. InputError lists all that are missing,
    or says which value cannot be, or is of another kind.
    """
    values: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if equals and not Path(text).is_file():
            values[key.strip()] = _value(key.strip(), value.strip())
        else:
            values |= read_settings(Path(text))
    kind = values.get("kind")
    if kind is not None and kind not in OF_KIND:
        raise unknown("kind", kind, OF_KIND)
    own = OF_KIND.get(str(kind), ())
    if lacking := [name for name in (*ALWAYS, *own) if name not in values]:
        raise InputError(
            "Preprocessing is described in full, since a weight file does not say it; missing: "
            f"{', '.join(lacking)}{'' if kind else f' (and what the kind needs: {_kinds()})'}."
        )
    if values["pixel_scale"] == UNKNOWN:
        values["pixel_scale"] = None
    preprocess = Preprocess.checked(values)
    for name in (name for names in OF_KIND.values() for name in names if name not in own and name in values):
        if getattr(preprocess, name) != Preprocess.model_fields[name].default:
            raise InputError(f"Preprocessing of kind {kind} has no {name}, but {name} = {values[name]} was given.")
    _check(preprocess)
    return preprocess


def _kinds() -> str:
    return "; ".join(f"{kind}: {', '.join(names) or 'nothing'}" for kind, names in OF_KIND.items())


def _value(key: str, text: str) -> Any:
    """A value as JSON where it is JSON; lists may be given as a,b,c."""
    listed = key in ("bands", "scales") or (key in ("mean", "std") and "," in text)
    if listed and not text.startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    if key in ("unit", "kind", "dtype"):  # texts, even where they look like numbers
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _check(preprocess: Preprocess) -> None:
    """InputError where a description cannot be meant."""
    bands = preprocess.bands
    if not bands or len(set(bands)) < len(bands) or not all(bands):
        raise InputError(f"bands are at least one, each with a name of its own, but {', '.join(bands)!r} was given.")
    if preprocess.kind == "lupton" and len(preprocess.scales) != len(bands):
        raise InputError(f"scales are one per band, but {len(preprocess.scales)} for {len(bands)} bands were given.")
    positive = {f"the scale of {band}": scale for band, scale in zip(bands, preprocess.scales, strict=False)}
    positive |= {"size": preprocess.size, "Q": preprocess.Q, "divisor": preprocess.divisor}
    positive["std"] = min(preprocess.std) if isinstance(preprocess.std, tuple) else preprocess.std
    if preprocess.pixel_scale is not None:
        positive["pixel_scale"] = preprocess.pixel_scale
    for name, value in positive.items():
        if not value > 0:
            raise InputError(f"{name} is greater than 0, but {value:g} was given.")
    if preprocess.size > 65_536:
        raise InputError(f"size is at most 65,536 px, but {preprocess.size:,} was given.")


def grouped(keys: Iterable[str], at_most: int = 6) -> str:
    """Many keys in few words: those below one module are counted, e.g. `module.encoder_k.* (160)`."""
    names = list(keys)
    for depth in range(6, 0, -1):
        groups = Counter(_group(name, depth) for name in names)
        if len(groups) <= at_most or depth == 1:
            break
    parts = [name if count == 1 and not name.endswith("*") else f"{name} ({count})" for name, count in groups.items()]
    return ", ".join(parts[:at_most]) + (f", … ({len(parts) - at_most} more)" if len(parts) > at_most else "")


def _group(name: str, depth: int) -> str:
    pieces = name.split(".")
    return name if len(pieces) <= depth else ".".join(pieces[:depth]) + ".*"
