"""Embedding into one file: reused where it holds just these vectors, taken up where a run was stopped."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike import __version__
from lookalike.embeddings import Embeddings, normalize
from lookalike.embeddings_writer import VectorsAbout, leftovers, open_writer, remove_leftovers
from lookalike.errors import CollapsedError, CorruptError, InputError, LockedError
from lookalike.files import file_output, lock
from lookalike.progress import Advance
from lookalike.provenance import WAYS_OUT, build_record, write_record
from lookalike.samples import Samples
from lookalike.ssl.inference import Inference, vectors_of

ARITHMETIC = 1e-5  # of a unit vector's length, what the encoder's float32 arithmetic leaves undetermined
BLOCK_BYTES = 2**26
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)

Mean = NDArray[np.float64]  # (D,) of unit vectors


@dataclass(frozen=True)
class Job:
    """What is to be embedded with what; `about` is that of the whole data set. `notes` are added to."""

    make_inference: Callable[[], Inference]
    about: VectorsAbout
    B: int
    save_seconds: float
    overwrite: bool
    notes: list[str] = field(default_factory=list)

    @cached_property
    def inference(self) -> Inference:
        """Made when the first vectors are computed: a file that can be reused needs none."""
        return self.make_inference()

    @property
    def settings(self) -> dict[str, Any]:
        return {"layer": self.about.layer, "dtype": self.about.dtype, "batch_size": self.B}

    @property
    def machine(self) -> dict[str, str]:
        """What the vectors are computed on and by: type of device, versions."""
        return {"device": self.inference.device.type, "torch": str(torch.__version__), "lookalike": __version__}

    def made_from(self, samples: str) -> dict[str, str]:
        """What the vectors of a data set of this content hash are made from."""
        return {**self.about.made_from, "samples": samples}


def embed_file(samples: Samples, out: Path, job: Job, advance: Advance) -> tuple[str, float]:
    """Embed a data set into one file, or find that it is there; content hash and spread of the vectors."""
    if out.exists() and not job.overwrite and (held := _reusable(out, job)):
        _tidy(out)
        return held.content_hash, spread_of(mean_of(held))

    def check(mean: Mean) -> None:
        refuse_collapsed(mean, len(samples), job.about.dtype)

    with lock(file_output(out)):
        return write_file(samples, out, job, advance, check=check)


def write_file(
    samples: Samples, out: Path, job: Job, advance: Advance, *, check: Callable[[Mean], None] = lambda mean: None
) -> tuple[str, float]:
    """Embed a data set into one file, from the rows on that an earlier run saved; the caller holds the lock on it.

    check : what refuses the mean (D,) of the vectors before the file is complete.
    """
    made_from = job.made_from(samples.content_hash)
    about = replace(job.about, made_from=made_from)
    resume = {"batch_size": job.B, **job.machine}  # another machine's or version's rows differ by rounding, or more
    with open_writer(out, samples.ids, about, resume=resume, save_seconds=job.save_seconds) as writer:
        if writer.start:
            job.notes.append(f"{out}: went on after {writer.start:,} objects that an earlier run had saved.")
            advance(writer.start)
        for vectors in vectors_of(samples, job.inference, job.B, writer.start):  # (B, D)
            writer.append(vectors)
            advance(len(vectors))
        mean = writer.total / len(samples)
        check(mean)
    record = build_record(
        "embed",
        settings=job.settings,
        inputs=made_from,
        content_hash=writer.content_hash,
        data=samples.about.source,
    )
    write_record(out, record)
    return writer.content_hash, spread_of(mean)


def _reusable(out: Path, job: Job) -> Embeddings | None:
    """The file there if it holds just these vectors, None if it did but is damaged; InputError for any other file."""
    file_output(out)
    try:
        held = Embeddings(out)
    except (InputError, CorruptError):
        raise InputError(f"{out} is there already and is no embeddings file. {WAYS_OUT}") from None
    wanted = {**job.about.made_from, "layer": job.about.layer, "dtype": job.about.dtype}
    found = {**held.made_from, "layer": held.layer, "dtype": str(held.vectors.dtype)}
    if other := [name for name, value in wanted.items() if found.get(name) != value]:
        raise InputError(f"{out} is there already, made with other {' and '.join(other)}. {WAYS_OUT}")
    try:
        held.verify()
    except CorruptError:
        job.notes.append(f"{out} was damaged and is made anew.")
        return None
    job.notes.append(f"{out} holds these embeddings already: nothing was computed (--overwrite computes them anew).")
    return held


def _tidy(out: Path) -> None:
    """Remove what a run left that was killed after its file had got its name, if there is any and it may be done."""
    if not any(left.exists() for left in leftovers(out.resolve())):
        return
    try:
        with lock(out):
            remove_leftovers(out)
    except LockedError:
        pass
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise


def mean_of(embeddings: Embeddings) -> Mean:
    """The mean (D,) of the stored vectors."""
    total = np.zeros(embeddings.dimensions)
    step = max(1, BLOCK_BYTES // (8 * embeddings.dimensions))
    for start in range(0, len(embeddings), step):
        total += normalize(embeddings.vectors[start : start + step], start).sum(axis=0)
    return total / len(embeddings)


def useless_spread(dtype: str) -> float:
    """The spread that vectors stored in this type may get by rounding alone: below it, it decides what is similar.

    A component is stored within eps/2 of its own size, so a vector of length 1 within eps/2, beside what the arithmetic
    left; and vectors within r of a common direction have a spread of at most r². So 1e-10 for float32, 2.5e-7 for
    float16, whose eps of 2⁻¹⁰ is by far the larger part.
    """
    return float(ARITHMETIC + np.finfo(dtype).eps / 2) ** 2


def refuse_collapsed(mean: Mean, n: int, dtype: str) -> None:
    """CollapsedError where n vectors of this mean (D,), stored in this type, are all the same but for rounding."""
    if n > 1 and spread_of(mean) < useless_spread(dtype):
        raise CollapsedError(
            f"The encoder gives all {n:,} objects the same vector (spread {spread_of(mean):.1e}): it has collapsed, "
            "or the pictures are identical. Train it again, with a smaller lr or milder augmentations."
        )


def spread_of(mean: Mean) -> float:
    """1 − |mean unit vector|² from the mean (D,)."""
    return max(0.0, 1.0 - float(mean @ mean))
