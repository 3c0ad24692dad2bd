"""Plain pictures: the augmentations of MoCo v2 (Chen et al. 2020, arXiv:2003.04297), scaled to the picture's size.

Random resized crop and horizontal flip, color jitter, gray, Gaussian blur, in that order; where asked for, the crop is
turned, and dark and bright are swapped before the jitter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log, pi
from typing import TYPE_CHECKING

from lookalike.augmentations.domain import Domain
from lookalike.augmentations.drawing import draw
from lookalike.augmentations.image_settings import Crop, ImageSettings
from lookalike.augmentations.preprocess import Preprocess, central
from lookalike.errors import InputError
from lookalike.samples import About

if TYPE_CHECKING:
    import torch

    from lookalike.augmentations.bank import Bank
    from lookalike.augmentations.draws import Draws

IMAGENET = 224  # px, the picture size that MoCo v2's blur is stated for
ATTEMPTS = 10  # crops drawn before the largest central one is taken, as torchvision does


def default_settings(
    about: About, stored_size: int, columns: frozenset[str], dtype: str | None = None
) -> tuple[ImageSettings, list[str]]:
    """MoCo v2's numbers at the stored size; without color steps unless the bands are R, G, B."""
    color = about.bands == ("R", "G", "B")
    notes = [] if color else [f"color: saturation, hue and gray are off for the bands {', '.join(about.bands)}."]
    common = {"bands": about.bands, "size": stored_size, "color": color}
    if dtype != "float32":
        return ImageSettings.checked(common | {"clip": (0.0, 255.0)}), notes
    notes.append("input: float pixels as stored; give divisor, mean and std if they are far from 0 to 1.")
    return ImageSettings.checked(common | {"dtype": "float32", "divisor": 1.0, "mean": 0.0, "std": 1.0}), notes


def view(
    images: torch.Tensor,
    catalog: Mapping[str, torch.Tensor],
    draws: Draws,
    settings: ImageSettings,
    bank: Bank | None = None,
) -> torch.Tensor:
    """One augmented view (B, C, size, size) float32 of the center of each picture (B, C, H, W), stored units."""
    from lookalike.augmentations import ops

    if images.shape[1] != len(settings.bands):
        raise InputError(f"Pictures have the bands {', '.join(settings.bands)}, but {images.shape[1]} were given.")
    draws = draws.to(images.device)
    x = _cropped(central(images, settings.size).float(), draws, settings)  # (B, C, h, w)
    if settings.negative.enabled:
        assert settings.clip is not None
        chosen = draws.uniform("negative") < settings.negative.probability  # (B,)
        x[chosen] = sum(settings.clip) - x[chosen]
    if settings.jitter.enabled:
        _jitter_(x, draws, settings)
    if settings.color and settings.gray.enabled:
        chosen = draws.uniform("gray") < settings.gray.probability  # (B,)
        x[chosen] = _luma(x[chosen]).expand(-1, 3, -1, -1)
    if settings.blur.enabled:
        low, high = settings.blur.low, settings.blur.high
        sigma = (low + draws.uniform("blur_sigma") * (high - low)) * settings.size / IMAGENET  # (B,)
        sigma = sigma * (draws.uniform("blur") < settings.blur.probability)
        x = ops.blur(x, sigma[:, None].expand(-1, x.shape[1]))
    return x


def crop_boxes(draws: Draws, crop: Crop, height: int, width: int) -> torch.Tensor:
    """Random boxes (B, 4) float64: center x, y from the picture's center, width, height, in px."""
    import torch

    area = crop.area[0] + draws.uniform("crop_area", ATTEMPTS) * (crop.area[1] - crop.area[0])  # (B, 10)
    low, high = log(crop.ratio[0]), log(crop.ratio[1])
    ratio = torch.exp(low + draws.uniform("crop_ratio", ATTEMPTS) * (high - low))  # (B, 10)
    w, h = (area * height * width * ratio).sqrt(), (area * height * width / ratio).sqrt()  # (B, 10)
    fits = (w <= width) & (h <= height)
    first = fits.int().argmax(1, keepdim=True)  # (B, 1)
    whole = min(max(width / height, crop.ratio[0]), crop.ratio[1])
    widest = min(width, height * whole)
    found = fits.any(1)
    w = w.gather(1, first)[:, 0].where(found, w.new_tensor(widest))
    h = h.gather(1, first)[:, 0].where(found, h.new_tensor(widest / whole))
    x = ((draws.uniform("crop_x") - 0.5) * (width - w)).where(found, 0.0)
    y = ((draws.uniform("crop_y") - 0.5) * (height - h)).where(found, 0.0)
    return torch.stack([x, y, w, h], 1)


def _cropped(images: torch.Tensor, draws: Draws, settings: ImageSettings) -> torch.Tensor:
    """The crop, enlarged to the view's size, the turn and the flip, in one interpolation."""
    import torch

    from lookalike.augmentations import ops

    H, W = images.shape[2:]
    if settings.crop.enabled:
        boxes = crop_boxes(draws, settings.crop, H, W)
    else:
        boxes = torch.tensor([0.0, 0.0, W, H], dtype=torch.float64, device=images.device).expand(len(images), 4)
    matrix = torch.diag_embed(boxes[:, 2:] / settings.size)  # (B, 2, 2)
    if settings.turn.enabled:
        angle = (2 * draws.uniform("turn") - 1) * (settings.turn.degrees * pi / 180)  # (B,)
        cos, sin = angle.cos(), angle.sin()
        turned = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)  # (B, 2, 2)
        matrix = matrix @ turned.to(matrix)
    if settings.flip.enabled:
        flipped = draws.uniform("flip") < settings.flip.probability
        matrix[:, :, 0] *= (1.0 - 2.0 * flipped)[:, None]
    return ops.resample(images, matrix, boxes[:, :2], settings.size, outside="border")


def _jitter_(x: torch.Tensor, draws: Draws, settings: ImageSettings) -> None:
    """Change some pictures' colors in place, each by its own factors, the steps in each one's own order."""
    jitter = settings.jitter
    chosen = draws.uniform("jitter") < jitter.probability  # (B,)
    factors = 2 * draws.uniform("jitter_factors", 4) - 1  # (B, 4) in (-1, 1)
    steps: list[tuple[Callable[[torch.Tensor, torch.Tensor], torch.Tensor], float, float]] = [
        (_brighten, 1.0, jitter.brightness),
        (_contrast, 1.0, jitter.contrast),
    ]
    if settings.color:
        steps += [(_saturate, 1.0, jitter.saturation), (_turn_hue, 0.0, jitter.hue)]
    order = draws.uniform("jitter_order", len(steps)).argsort(1)  # (B, steps)
    for place in range(len(steps)):
        for which, (change, middle, reach) in enumerate(steps):
            rows = (chosen & (order[:, place] == which)).nonzero()[:, 0]  # (n,)
            factor = (middle + reach * factors[rows, which]).to(x.dtype)[:, None, None, None]  # (n, 1, 1, 1)
            changed = change(x[rows], factor)
            x[rows] = changed if settings.clip is None else changed.clamp_(*settings.clip)


def _luma(x: torch.Tensor) -> torch.Tensor:
    """Brightness (B, 1, H, W): of R, G, B with the eye's weights (ITU-R BT.601), else the mean of the bands."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _brighten(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return x * factor


def _contrast(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    gray = _luma(x).mean((2, 3), keepdim=True)  # (B, 1, 1, 1)
    return gray + (x - gray) * factor


def _saturate(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    gray = _luma(x)  # (B, 1, H, W)
    return gray + (x - gray) * factor


def _turn_hue(x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Hue turned by a part of the circle at the same value (largest of R, G, B) and chroma (largest − smallest)."""
    import torch

    r, g, b = x.unbind(1)  # (B, H, W) each
    value, smallest = x.amax(1), x.amin(1)
    chroma = value - smallest
    safe = chroma.clamp_min(1e-12)
    # Sextants of the hue circle: red at 0, green at 2, blue at 4.
    hue = torch.where(value == r, (g - b) / safe, torch.where(value == g, 2 + (b - r) / safe, 4 + (r - g) / safe))
    hue = hue + 6 * turn[:, 0]
    away = torch.stack([(hue + n).remainder(6) for n in (5, 3, 1)], 1)  # (B, 3, H, W)
    part = torch.minimum(away, 4 - away).clamp_(0, 1)
    return value[:, None] - chroma[:, None] * part


def columns(settings: ImageSettings, bands: tuple[str, ...], present: frozenset[str]) -> tuple[str, ...]:
    """No catalog column is read."""
    return ()


def preprocess(about: About, settings: ImageSettings) -> Preprocess:
    """The pixels, brought to about unit spread."""
    return Preprocess(
        kind="scaled",
        size=settings.size,
        bands=about.bands,
        dtype=settings.dtype,
        unit=about.unit,
        pixel_scale=about.pixel_scale,
        divisor=settings.divisor,
        mean=settings.mean,
        std=settings.std,
    )


def turns(settings: ImageSettings) -> bool:
    """Whether views are turned by any angle and mirrored, so that their objects have no up or down."""
    return (
        settings.turn.enabled
        and settings.turn.degrees == 180
        and settings.flip.enabled
        and settings.flip.probability > 0
    )


IMAGE = Domain(
    name="image",
    settings_type=ImageSettings,
    settings=default_settings,
    columns=columns,
    view=view,
    preprocess=preprocess,
    draw=draw,
    stretches=("auto", "native", "linear", "asinh", "log", "zscale"),
    turns=turns,
)
