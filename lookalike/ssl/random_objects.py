"""Random objects as they are stored, for comparing an encoder with what was made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lookalike.about import FEATURES, IMAGES, PARTICLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from lookalike.ssl.checkpoint import CheckpointConfig

BATCHES = (1, 2, 7)  # batch sizes compared; a file is traced with another
BORDERS = ((0, 0), (9, 4))  # px of height and width beyond the encoder's own size, compared likewise
PLACES = (4, 90)  # constituents of a jet, compared likewise
MORE = (0, 9)  # particles beyond the fewest, compared likewise


def example(config: CheckpointConfig) -> tuple[torch.Tensor, dict[int, Any]]:
    """What a module is traced with, and which of its axes are free."""
    import torch

    size, layout = config.preprocess.size, config.preprocess.layout
    free = {0: torch.export.Dim("batch")}
    if layout == IMAGES:
        free |= {2: torch.export.Dim("height", min=size), 3: torch.export.Dim("width", min=size)}
        return random_pixels(config, 3, size + 2, size + 5), free
    if _of_jets(config):
        free[1] = torch.export.Dim("particles", min=2)
        return random_particles(config, 3, 50), free
    if layout == PARTICLES:
        free[1] = torch.export.Dim("particles", min=_fewest(config))
    return random_numbers(config, 3, _fewest(config) + 3), free


def compared(config: CheckpointConfig) -> Iterator[torch.Tensor]:
    """Random objects (B, *shape) in batches and sizes of several kinds."""
    size, layout = config.preprocess.size, config.preprocess.layout
    for B in BATCHES:
        if layout == IMAGES:
            yield from (random_pixels(config, B, size + below, size + beside) for below, beside in BORDERS)
        elif _of_jets(config):
            yield from (random_particles(config, B, P) for P in PLACES)
        else:
            yield from (random_numbers(config, B, _fewest(config) + more) for more in MORE)


def _of_jets(config: CheckpointConfig) -> bool:
    return config.preprocess.kind == "jet"


def random_pixels(config: CheckpointConfig, B: int, H: int, W: int) -> torch.Tensor:
    """Random pixels (B, C, H, W) as they are stored, spread about as the encoder's own data are."""
    import torch

    from lookalike.augmentations.preprocess import by_band, of_pictures

    wanted = of_pictures(config.preprocess, "Exporting as ONNX")
    draws = torch.Generator().manual_seed(B * 1_000_003 + H * 1009 + W)
    shape = (B, len(wanted.bands), H, W)
    if wanted.dtype == "uint8":
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=draws)
    noise = torch.randn(shape, generator=draws)
    if wanted.kind == "scaled":
        return (noise * by_band(wanted.std, noise) + by_band(wanted.mean, noise)) * wanted.divisor
    return noise / max(wanted.scales, default=1.0)


def random_particles(config: CheckpointConfig, B: int, P: int) -> torch.Tensor:
    """Constituents (B, P, 4) of random jets by falling pT, the last half of some empty."""
    import torch

    draws = torch.Generator().manual_seed(B * 1_000_003 + P)
    pt = 20 * torch.rand((B, P), generator=draws).log().neg().sort(dim=1, descending=True).values  # GeV
    jet = torch.randint(0, 2, (B, P), generator=draws).float()
    place = (0.3 * torch.randn((2, B, P), generator=draws)) + torch.stack([jet, 2 * jet])  # η, φ
    x = torch.stack([pt, place[0], place[1], jet], dim=2)  # (B, P, 4)
    x[::2, (P + 1) // 2 :] = 0
    return x


def random_numbers(config: CheckpointConfig, B: int, P: int) -> torch.Tensor:
    """Random records (B, F), some of their numbers undefined, or lists (B, P, F) with free places after P − 2."""
    import torch

    record = config.preprocess.layout == FEATURES
    draws = torch.Generator().manual_seed(B * 1_000_003 + P)
    shape = (B,) if record else (B, P)
    columns = []
    for scale in _stored_scales(config):
        uniform = torch.rand(shape, generator=draws)
        if scale.startswith("one of"):
            columns.append((uniform * int(scale[7:])).floor())
        else:
            columns.append(-40 * torch.log(1 - uniform) + 1 if scale in ("log", "unseen") else 5 * uniform - 2.5)
    made = torch.stack(columns, dim=-1)
    if record:
        made[torch.rand(made.shape, generator=draws) < 0.1] = torch.nan
        return made
    made[:, max(1, P - 2) :] = 0
    order = made[..., 0].argsort(dim=1, descending=True)
    return made.gather(1, order[..., None].expand_as(made))


def _stored_scales(config: CheckpointConfig) -> tuple[str, ...]:
    """The scale of each stored number of a record or particle; InputError for any other input than these."""
    from lookalike.augmentations.event_input import EventRecord
    from lookalike.augmentations.event_particles import STORED, EventParticles
    from lookalike.augmentations.numbers import Numbers
    from lookalike.augmentations.preprocess import of_pictures

    seen = config.preprocess
    if isinstance(seen, Numbers):
        return seen.scales
    if isinstance(seen, EventRecord):
        return seen.record.scales[: seen.size]
    if isinstance(seen, EventParticles):
        return STORED
    of_pictures(seen, "Exporting as ONNX")
    raise AssertionError(seen.kind)


def _fewest(config: CheckpointConfig) -> int:
    """The fewest particles P of a list that the file takes."""
    return max(1, int(getattr(config.preprocess, "paired", 1)))
