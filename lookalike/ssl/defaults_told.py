"""What each setting of a training is when it is left out, in words, for `lookalike train --help`."""

from __future__ import annotations

from typing import Any

from lookalike.augmentations import DOMAINS
from lookalike.ssl import defaults
from lookalike.ssl.architectures import MlpSettings, Places, SetSettings
from lookalike.ssl.settings import SMALL_VIEW, TrainConfig


def told() -> dict[str, str]:
    """Setting → what it is when it is left out; N is the number of objects."""
    by_data = _by_data()
    values = {name: field.get_default(call_default_factory=True) for name, field in TrainConfig.model_fields.items()}
    return {name: by_data[name] if value is None else _plain(value) for name, value in values.items()}


def _by_data() -> dict[str, str]:
    """The settings that follow from data, domain and machine."""
    *encoders, last = sorted({domain.default_encoder for domain in DOMAINS.values()})
    mlp, of_set, places = MlpSettings(), SetSettings(), Places()
    paced = [(domain.name, domain.pace) for domain in DOMAINS.values() if domain.pace]
    halved = ", ".join(f"{domain.name} {kind}" for domain in DOMAINS.values() for kind in domain.half_untrained)
    return {
        "encoder": f"{', '.join(encoders)} or {last}, by the domain",
        "small_stem": f"for views below {SMALL_VIEW} px",
        "epochs": f"{defaults.VIEWED:,}/N; at least {_growing(defaults.FEWEST_EPOCHS)}; "
        f"at most {defaults.MOST_EPOCHS:,}"
        + "".join(f"; of {name}s {pace.viewed:,}/N, at least {pace.fewest}" for name, pace in paced),
        "batch_size": _growing(defaults.BATCH),
        "queue": f"the largest multiple of the batch ≤ N/{defaults.SHARE} and ≤ {defaults.MAX_QUEUE:,}",
        "momentum": f"1 − {defaults.FOLLOWING}/steps, within {defaults.LOW_MOMENTUM} and {defaults.HIGH_MOMENTUM}",
        "temperature": _growing(defaults.TEMPERATURE),
        "lr": _growing(defaults.LR) + "".join(f"; of {name}s {pace.lr:g}" for name, pace in paced if pace.lr),
        "precision": "bfloat16 where the device multiplies it faster, else float16 on a GPU that does, else float32",
        "compile": "no",
        "sub_batches": "batch/32, at least 2",
        "orientations": f"8 up to N = {defaults.SMALL:,} where turned views are the same object (jets aside), else 1",
        "untrained_half": f"for {halved} encoders",
        "places": f"none; stage {places.stage}, grid {places.grid} where one of the two is given",
        "mlp": f"hidden {' '.join(map(str, mlp.hidden))}, dimensions {mlp.dimensions}, of the encoder mlp",
        "set": f"particle {' '.join(map(str, of_set.particle))}, hidden {' '.join(map(str, of_set.hidden))}, "
        f"dimensions {of_set.dimensions}, of the encoder set",
    }


def _growing(ends: tuple[float, float]) -> str:
    """A value that goes from one to another as N grows."""
    return f"{ends[0]:g}, going from N = {defaults.SMALL:,} to {ends[1]:g} at N = {defaults.LARGE:,}"


def _plain(value: Any) -> str:
    return "the domain's" if value == {} else f"{value:g}" if isinstance(value, int | float) else str(value)
