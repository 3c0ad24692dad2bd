"""A training run with nothing left open: data, domain, augmentations and settings, new or as a checkpoint has them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from lookalike.augmentations import get_domain
from lookalike.augmentations.domain import Domain
from lookalike.augmentations.given import with_given
from lookalike.augmentations.preprocess import Seen
from lookalike.config import Config
from lookalike.errors import InputError
from lookalike.samples import Samples
from lookalike.ssl.architectures import EncoderConfig, MlpShape, SetShape
from lookalike.ssl.checkpoint import Began, CheckpointConfig
from lookalike.ssl.fitting import check_fits
from lookalike.ssl.hardware import fast_precision
from lookalike.ssl.settings import SettledConfig, TrainConfig, refuse_changes, resolved, trained_with
from lookalike.ssl.starting import Start
from lookalike.wording import counted

CPU = torch.device("cpu")
POSITIVE = ("psfsize_", "psfdepth_")  # columns of these names hold no value where it is not positive


@dataclass(frozen=True)
class Plan:
    """What each part of the loop needs; `notes` say for people what was decided."""

    samples: Samples
    domain: Domain
    augment: Config
    preprocess: Seen
    config: SettledConfig
    notes: list[str]
    began: Began | None = None  # with which weights, if not with random ones
    initial: dict[str, torch.Tensor] | None = None  # those weights by name, of a new run

    @property
    def inputs(self) -> dict[str, str]:
        """The content hash of each thing the encoder is made from."""
        weights = {f"weights {self.began.weights}": self.began.hash} if self.began else {}
        return {"samples": self.samples.content_hash, **weights}

    @property
    def steps_per_epoch(self) -> int:
        return len(self.samples) // self.config.batch_size

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    @property
    def epochs(self) -> int:
        return self.config.epochs

    @property
    def K(self) -> int:
        return self.config.queue

    @property
    def columns(self) -> tuple[str, ...]:
        """The catalog columns the augmentations read."""
        return self.domain.columns(self.augment, self.samples.about.bands, frozenset(self.samples.columns))

    @property
    def encoder(self) -> EncoderConfig:
        mlp, of_set, features = self.config.mlp, self.config.set, self.preprocess.numbers
        return EncoderConfig(
            name=str(self.config.encoder),
            channels=self.preprocess.channels,
            small_stem=bool(self.config.small_stem),
            projection=self.config.projection,
            orientations=self.config.orientations,
            untrained_half=self.config.untrained_half,
            places=self.config.places,
            mlp=mlp and MlpShape(**mlp.model_dump(), features=features),
            set=of_set and SetShape(**of_set.model_dump(), features=features),
        )

    def checkpoint(self, step: int) -> CheckpointConfig:
        """The description of the encoder after `step` steps."""
        return CheckpointConfig(
            encoder=self.encoder,
            preprocess=self.preprocess,
            domain=self.domain.name,
            bands=self.samples.about.bands,
            augment=self.augment.model_dump(mode="json"),
            train=self.config.model_dump(mode="json"),
            samples_hash=self.samples.content_hash,
            objects=len(self.samples),
            epoch=step / self.steps_per_epoch,
            step=step,
            start=self.began,
        )


def make_plan(
    samples: Samples,
    config: TrainConfig,
    stored: CheckpointConfig | None = None,
    *,
    precision: str | None = None,
    processes: int = 1,
    start: Start | None = None,
) -> Plan:
    """Fill in the open settings by data and machine; on resume take the stored ones, which may change in epochs only.

    precision : what the device multiplies fast (None: what this CPU does). processes : how many train together.
    start : the weights a new run begins with, or those that a resumed one began with.
    """
    about = samples.about
    domain = get_domain(about.domain)
    grown: list[str] = []
    if stored is not None:
        _refuse_other_samples(stored, samples)
        refuse_changes(stored.train, config)
        before = trained_with(stored.train)
        if config.epochs not in (None, before.epochs):
            grown = [
                f"The run grows from {before.epochs} to {config.epochs} epochs; lr goes on along the longer cosine."
            ]
        config = before if config.epochs is None else before.changed({"epochs": config.epochs})
        if start is not None:
            _refuse_other_start(stored.start, start)
    elif start is not None:
        config = start.adopted(config)
    defaults, notes = domain.settings(about, samples.size, frozenset(samples.columns), str(samples.dtype))
    augment = with_given(defaults, config.augment, about.bands if stored is None else None)
    preprocess = domain.fit(samples, domain.preprocess(about, augment))
    settled = resolved(
        config,
        objects=len(samples),
        view_size=preprocess.size,
        default_encoder=domain.default_encoder,
        kinds=preprocess.encoders,
        precision=precision or fast_precision(CPU),
        processes=processes,
        turns=domain.orientations == 8 and domain.turns(augment),
        pace=domain.pace,
        half_untrained=domain.half_untrained,
    )
    plan = Plan(samples, domain, augment, preprocess, settled, notes)
    notes += [*_undefined(samples, plan.columns), *_describe(settled, len(samples), preprocess), *grown]
    if start is not None and stored is None:
        initial, told = start.fitted(plan.encoder, preprocess)
        notes += told
        plan = replace(plan, began=start.record, initial=initial)
    elif stored is not None:
        plan = replace(plan, began=stored.start)
    if stored is not None:
        now = plan.checkpoint(0)
        # A step that came with a later version, and is off there, is as it was.
        trained = domain.settings_type.checked(stored.augment)
        if (augment, now.preprocess) != (trained, stored.preprocess):
            raise InputError(
                "On resume the augmentation settings must be the same, but this version's defaults are others; "
                "train to another --out."
            )
    return plan


def _refuse_other_samples(stored: CheckpointConfig, samples: Samples) -> None:
    if stored.samples_hash == samples.content_hash:
        return
    check_fits(samples, stored, "The checkpoint")  # names what is of another kind: domain, bands, unit, type, size
    raise InputError(
        f"On resume the data must be the same, but the checkpoint was trained on samples with content hash "
        f"{stored.samples_hash[:12]}… and these have {samples.content_hash[:12]}…."
    )


def _refuse_other_start(began: Began | None, start: Start) -> None:
    if began is None or began.hash != start.digest:
        before = "with random weights" if began is None else f"with {began.weights} ({began.hash[:12]}…)"
        raise InputError(
            f"On resume --weights must be the same, but the run began {before} and {start.path.name} is "
            f"{start.digest[:12]}…. Leave it out, or train to another --out."
        )


def _undefined(samples: Samples, columns: tuple[str, ...]) -> list[str]:
    """How many objects have no value of their own in a column the augmentations read."""
    notes = []
    for name in columns:
        values = samples.column(name)
        if values.dtype.kind not in "fiu":
            continue  # refused where the columns are taken up
        usable = np.isfinite(values) & (values > 0) if name.startswith(POSITIVE) else np.isfinite(values)
        if missing := len(values) - int(np.count_nonzero(usable)):
            have = "has" if missing == 1 else "have"
            notes.append(
                f"{name}: {missing:,} of {counted(len(values), 'object')} {have} no value; "
                "the settings' typical one is used."
            )
    return notes


def _describe(config: SettledConfig, objects: int, preprocess: Seen) -> list[str]:
    """The values used, for people."""
    steps, left = divmod(objects, config.batch_size)
    inside = "with the standard stem"
    if config.small_stem:
        inside = "with the small-image stem (some 8 times the work of the standard one, small_stem=false)"
    if config.mlp is not None:
        widths = " → ".join(map(str, (*config.mlp.hidden, config.mlp.dimensions)))
        inside = f"of {preprocess.numbers} → {widths} numbers"
    if config.set is not None:
        widths = " → ".join(map(str, (*config.set.hidden, config.set.dimensions)))
        inside = f"of {preprocess.numbers - 1} → {' → '.join(map(str, config.set.particle))} → {widths} numbers"
    places = config.places
    by_place = f" Described by {places.grid} × {places.grid} places of stage {places.stage}." if places else ""
    turned = " Embedded as the mean over eight orientations." if config.orientations == 8 else ""
    turned += " Half of the embedding is that of another such encoder, which is never trained." * config.untrained_half
    one, more = "that is left over, another each time, waits", "that are left over, others each time, wait"
    rest = f" (the {counted(left, one, more)} for the next epoch)" if left else ""
    return [
        f"{counted(objects, 'object')}, {preprocess.told}; {config.encoder} {inside}.",
        f"{counted(config.epochs or 0, 'epoch')} of {counted(steps, 'step')} of "
        f"{counted(config.batch_size, 'object')}{rest}; queue K = {config.queue:,}, "
        f"momentum m = {config.momentum:.4g}, temperature T = {config.temperature:g}, "
        f"lr {config.lr:.4g} × {config.batch_size}/256, batch norm over {counted(config.sub_batches or 0, 'part')}, "
        f"in {config.precision}, seed {config.seed}.{by_place}{turned}",
    ]
