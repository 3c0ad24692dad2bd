"""What a training or an embedding would refuse, found out before torch is imported, which takes seconds."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from lookalike.augmentations import get_domain
from lookalike.augmentations.given import with_given
from lookalike.errors import InputError
from lookalike.files import check_parent, existing_files
from lookalike.samples import Samples
from lookalike.ssl.curves import LR_PLOT, check_copy
from lookalike.ssl.description import read_config, require_layer, wait_for_replacement
from lookalike.ssl.fitting import check_fits, samples_to_embed
from lookalike.ssl.labels import watched_objects
from lookalike.ssl.settings import TrainConfig, refuse_changes, resolved

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def check_training(
    paths: Sequence[Path],
    out: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    label: str | None = None,
    plot: Path | None = None,
    budget: float | None = None,
    weights: Path | None = None,
) -> None:
    """InputError, NotFoundError or CorruptError where `train` would raise it, as far as that shows without torch.

    A new run is checked for `find_lr` just so, since it tries the rates of one. Of several processes none checks: the
    first may have begun to write what another would find.
    """
    if "RANK" in os.environ:
        return
    samples = samples_to_train(paths, out, config, label=label, plot=plot, budget=budget)
    check_weights(weights)
    wait_for_replacement(out)
    if weights is None and not (resume and (out / "config.json").exists()):
        settle(samples, config)  # before --out, which has to be another one whatever the settings are
    if may_write(out, resume):
        refuse_changes(read_config(out).train, config)


def check_embedding(paths: Sequence[Path], checkpoint: Path, out: Path, *, layer: str, dtype: str) -> None:
    """InputError, NotFoundError or CorruptError where `embed` would raise it, as far as that shows without torch."""
    samples = samples_to_embed(paths, out, layer, dtype)
    config = read_config(checkpoint)
    require_layer(config, layer, checkpoint)
    check_fits(samples, config, checkpoint)


def samples_to_train(
    paths: Sequence[Path],
    out: Path,
    config: TrainConfig,
    *,
    label: str | None,
    plot: Path | None,
    budget: float | None,
) -> Samples:
    """The data set, where it can be read and the other arguments of a training go together; or an InputError."""
    if out.name in ("", ".."):
        raise InputError(f"A checkpoint is a folder with a name of its own, but {str(out)!r} was given.")
    check_parent(out)
    check_copy(plot)
    if budget is not None and config.epochs is not None:
        raise InputError(f"The epochs follow from --budget, so it goes without --epochs ({config.epochs}).")
    samples = Samples(list(paths))
    if label is not None:
        watched_objects(samples, label)
    return samples


def may_write(out: Path, resume: bool) -> bool:
    """Whether there is a checkpoint to resume; InputError if `out` holds something that must not be replaced."""
    if not out.exists():
        return False
    if not (out / "config.json").exists():
        if out.is_dir() and all(entry.name == LR_PLOT for entry in out.iterdir()):
            return False
        raise InputError(f"{out} exists and is not a checkpoint; choose another --out.")
    if not resume:
        raise InputError(f"{out} already holds a checkpoint: go on with --resume, or choose another --out.")
    if not (out / "state.json").exists():
        raise InputError(f"{out} holds an encoder without the state that resuming needs; choose another --out.")
    return True


def check_weights(weights: Path | None) -> None:
    """NotFoundError where there is no such folder or file."""
    if weights is not None and not weights.is_dir():
        existing_files([weights])


def settle(samples: Samples, config: TrainConfig) -> None:
    """InputError where the settings of a new run, with the domain's own, do not go with the data."""
    about, domain = samples.about, get_domain(samples.about.domain)
    defaults, _ = domain.settings(about, samples.size, frozenset(samples.columns), str(samples.dtype))
    seen = domain.preprocess(about, with_given(defaults, config.augment, about.bands))
    resolved(
        config,
        objects=len(samples),
        view_size=seen.size,
        default_encoder=domain.default_encoder,
        pace=domain.pace,
        kinds=seen.encoders,
    )


def seconds_of(text: str) -> float:
    """A duration such as 90s, 30m, 1h30m or 2d in seconds."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    total = sum(float(number) * UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not total > 0:
        raise InputError(f"A duration is like 90s, 30m, 1h30m or 2d, but {text!r} was given.")
    return total
