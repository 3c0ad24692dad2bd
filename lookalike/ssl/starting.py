"""Weights that a training starts from: a checkpoint of ours, or a file that `checkpoint import` understands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from lookalike.augmentations.preprocess import Preprocess, Seen
from lookalike.errors import InputError
from lookalike.files import existing_files
from lookalike.ssl.architectures import RESNET, EncoderConfig, MlpSettings, SetSettings, kind_of
from lookalike.ssl.checkpoint import CONFIG, MODEL, Began, CheckpointConfig, has_head, load_encoder, read_config
from lookalike.ssl.importing import file_digest, find_encoder, grouped
from lookalike.ssl.settings import TrainConfig

# The input of torchvision's own ResNets, R, G, B (torchvision/transforms/_presets.py, ImageClassification).
IMAGENET = "(pixel / 255 − mean) / std with mean 0.485, 0.456, 0.406 and std 0.229, 0.224, 0.225"
STEMS = ("backbone.conv1.weight", "untrained_half.untrained.conv1.weight")
STANDARDS = ("untrained_half.of_trained.", "untrained_half.of_untrained.")  # of as many numbers as describe an object


@dataclass(frozen=True)
class Found:
    """An encoder to start from.

    state  : its tensors by our names; the head's only where it was trained.
    config : of a checkpoint of ours.
    unused : keys of the file that our encoders have no place for, and what of it was passed over.
    """

    encoder: EncoderConfig
    state: dict[str, Tensor]
    config: CheckpointConfig | None = None
    unused: tuple[str, ...] = ()


class Start:
    """What `--weights` names; `digest` is cheap, the weights are read when they are asked for."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            path = existing_files([path])[0]
            if path.name == MODEL and _is_ours(path.parent):
                path = path.parent
        self.path = path.resolve()

    @cached_property
    def digest(self) -> str:
        """A checkpoint's content hash, else the SHA-256 of the file's bytes."""
        return read_config(self.path).content_hash if self.path.is_dir() else file_digest(self.path)

    @cached_property
    def found(self) -> Found:
        """The encoder; errors as for `load_encoder` and `import_checkpoint`."""
        if self.path.is_dir():
            encoder, config = load_encoder(self.path)
            state = dict(encoder.state_dict())
            if not has_head(config):
                state = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
            return Found(config.encoder, state, config)
        found, told = find_encoder(self.path)
        state = {name: tensor for name, tensor in found.state.items() if name not in found.missing}
        return Found(found.config, state, unused=(*found.unused, *sorted(told["unread"])))

    @property
    def record(self) -> Began:
        """What the checkpoint says of where it began."""
        return Began(weights=self.path.name, hash=self.digest)

    def adopted(self, config: TrainConfig) -> TrainConfig:
        """The settings with what the weights decide, the kind of encoder; InputError where another was given."""
        encoder = self.found.encoder
        decided: dict[str, Any] = {"encoder": encoder.name, "small_stem": encoder.small_stem}
        if encoder.mlp is not None:
            decided["mlp"] = MlpSettings(hidden=encoder.mlp.hidden, dimensions=encoder.mlp.dimensions)
        if encoder.set is not None:
            decided["set"] = SetSettings(**encoder.set.model_dump(exclude={"features"}))
        if encoder.untrained_half:
            decided["untrained_half"] = True
        for name, value in decided.items():
            given = getattr(config, name)
            if given not in (None, value):
                raise InputError(
                    f"The weights of {self.path.name} decide the encoder: theirs has {name} = {value}, but {given} was "
                    "given. Leave it out, or start from other weights."
                )
        if config.places is None:
            decided["places"] = encoder.places  # which another may be given for: no weight depends on it
        return config.model_copy(update=decided)

    def fitted(self, wanted: EncoderConfig, preprocess: Seen) -> tuple[dict[str, Tensor], list[str]]:
        """The tensors to begin `wanted` with, an encoder of the adopted kind, and notes on what became of the file."""
        found, state = self.found, dict(self.found.state)
        if found.encoder.mlp != wanted.mlp:
            assert found.encoder.mlp is not None
            assert wanted.mlp is not None
            raise InputError(
                f"The mlp of {self.path.name} takes {found.encoder.mlp.features:,} numbers of each object, but these "
                f"objects have {wanted.mlp.features:,} ({preprocess.told})."
            )
        if found.encoder.set != wanted.set:
            assert found.encoder.set is not None
            assert wanted.set is not None
            raise InputError(
                f"The set encoder of {self.path.name} takes {found.encoder.set.features:,} numbers of each particle, "
                f"but these have {wanted.set.features:,} ({preprocess.told})."
            )
        notes = [f"start: {wanted.name} with the weights of {self.path.name} ({self.digest[:12]}…)."]
        unused = list(found.unused)
        if "head.2.weight" not in state:
            notes.append("start: they come without a projection head of ours; it begins at random.")
        elif len(state["head.2.weight"]) != wanted.projection:
            notes.append(
                f"start: their head projects to {len(state['head.2.weight'])} numbers, this one to "
                f"{wanted.projection}; it begins at random."
            )
            unused += sorted(name for name in state if name.startswith("head."))
            state = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
        if unused:
            notes.append(f"start: not used: {grouped(unused)}.")
        learned = [name for name in state if name.startswith(STANDARDS)]
        if learned and found.encoder.places != wanted.places:
            notes.append("start: places differ, so what both halves are standardized by is learned anew.")
            state = {name: tensor for name, tensor in state.items() if name not in learned}
        if kind_of(wanted.name) == RESNET and found.encoder.channels != wanted.channels:
            state |= {name: adapted_stem(state[name], wanted.channels) for name in STEMS if name in state}
            notes.append(
                f"start: the stem's weights, for {found.encoder.channels} bands, are averaged over them and scaled by "
                f"{found.encoder.channels}/{wanted.channels} for these {wanted.channels}."
            )
        return state, notes + self._input(preprocess)

    def _input(self, preprocess: Seen) -> list[str]:
        """How the input is made here, where the weights are used to another or do not say."""
        if self.found.config is None:
            return [
                f"start: the file does not say what its input was; here it is {described(preprocess)}. torchvision's "
                f"ImageNet weights expect {IMAGENET}; the domain's settings augment say what is given."
            ]
        before = self.found.config.preprocess
        if type(before) is not type(preprocess):
            return [f"start: the weights were trained on another input: {before.told}, now {preprocess.told}."]
        differ = [name for name in type(before).model_fields if getattr(before, name) != getattr(preprocess, name)]
        if not differ:
            return []
        changes = [
            f"{name} {_plain(getattr(before, name))}, now {_plain(getattr(preprocess, name))}" for name in differ
        ]
        return [f"start: the weights were trained on another input: {'; '.join(changes)}."]


def adapted_stem(weight: Tensor, channels: int) -> Tensor:
    """A stem's weights (D, C, k, k) for another number of bands, (D, channels, k, k).

    Each band has the mean over the C, times C / channels: a picture alike in all bands gives what it gave before.
    """
    C = weight.shape[1]
    return (weight.mean(dim=1, keepdim=True) * (C / channels)).repeat(1, channels, 1, 1)


def described(preprocess: Seen) -> str:
    """The pixel mapping as a formula; of what are no pictures, a few words."""
    if not isinstance(preprocess, Preprocess):
        return preprocess.told
    p = preprocess
    if p.kind == "scaled":
        return f"(pixel / {p.divisor:g} − mean) / std with mean {_plain(p.mean)} and std {_plain(p.std)}"
    if p.kind == "lupton":
        return f"the color image of Lupton et al. (2004) with m {p.m:g}, Q {p.Q:g}, scales {_plain(p.scales)}"
    return f"the stored values{f' in {p.unit}' if p.unit else ''}"


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_plain, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds a checkpoint of ours; others name their files alike."""
    if not (folder / CONFIG).is_file():
        return False
    try:
        read_config(folder)
    except InputError:
        return False
    return True
