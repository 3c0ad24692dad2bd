"""Foregrounds: a star, or another object of the set, pasted off center before everything else happens to a picture.

Stein et al. (2021), arXiv:2110.13151, section 6, name bright objects in the foreground as what pulls a similarity away
from the object of interest, and leave this augmentation for later. What is pasted is in the sky: it is turned, scaled,
shifted, blurred, reddened and covered by noise as the rest of the picture is.

Light adds. Fluxes are summed; 8-bit pictures have been stretched for the eye by a function that nobody recorded, and
are screened: 255 − (255 − a)(255 − b)/255. That is the sum of light where the stretch is 1 − exp(−light), and for any
stretch that bends downwards (asinh, logarithm, root) the right answer lies, as the screen does, between the larger of
both and their sum; it cannot exceed white, where a sum would have to be cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor

from lookalike.augmentations.bank import Bank
from lookalike.augmentations.draws import Draws
from lookalike.augmentations.galaxy_settings import FWHM, Foreground, GalaxySettings, psf_value

WHITE = 255.0
BRIGHTEST = 254.5  # a white pixel's light is not known; this much is taken
FAINTEST = 5.0  # σ of the sky; a star's flux is a multiple of the object's own, which is at least that
NARROWEST = 0.5  # px; narrower stars would lose light between the pixels' centers


@dataclass
class Placed:
    """What is pasted on each picture: B batch, S places, of which those that are not `on` stay empty.

    on, star, mirrored : (B, S) bool; what is no star is an object. x, y : (B, S) px from the picture's center along
    columns and rows. angle : (B, S) radians. flux : (B, S), a star's in units of the object's own. other : (B, S)
    int64, the place in the bank of the object that is pasted, or whose colors the star has.
    """

    on: Tensor
    star: Tensor
    x: Tensor
    y: Tensor
    angle: Tensor
    mirrored: Tensor
    flux: Tensor
    other: Tensor


def with_foreground(
    images: Tensor, catalog: Mapping[str, Tensor], draws: Draws, settings: GalaxySettings, bank: Bank
) -> Tensor:
    """New pictures (B, C, H, W) float32, some with a foreground; the arguments are those of a domain's `view`."""
    bank = bank.to(images.device)
    return paste(images, placed(draws, settings, bank), psf(catalog, draws.rows, settings), settings, bank)


def placed(draws: Draws, settings: GalaxySettings, bank: Bank) -> Placed:
    """Draw what is pasted where; no object is pasted on itself."""
    step = settings.foreground
    S, M = step.number, len(bank.rows)
    count = (draws.uniform("foreground_number") * S).floor() + 1  # (B,), 1 … S
    count = count * (draws.uniform("foreground") < step.probability)
    near, far = step.near * settings.size, step.far * settings.size  # px
    # Uniform over the area of the ring, as objects are over the sky.
    r = (near**2 + draws.uniform("foreground_distance", S) * (far**2 - near**2)).sqrt()  # (B, S)
    direction = draws.uniform("foreground_direction", S) * 2 * pi
    other = (draws.uniform("foreground_other", S) * M).floor().long()  # (B, S)
    other = torch.where(bank.rows[other] == draws.rows[:, None], (other + 1) % M, other)
    return Placed(
        on=torch.arange(S, device=count.device) < count[:, None],
        star=draws.uniform("foreground_star", S) < step.stars,
        x=r * direction.cos(),
        y=r * direction.sin(),
        angle=draws.uniform("foreground_angle", S) * 2 * pi,
        mirrored=draws.uniform("foreground_mirrored", S) < 0.5,
        flux=step.flux.draw(draws.uniform("foreground_flux", S)),
        other=other,
    )


def psf(catalog: Mapping[str, Tensor], rows: Tensor, settings: GalaxySettings) -> Tensor:
    """σ in px (B, C) of a star in the stored pictures: the object's own PSF where the catalog has it."""
    bands = []
    for band in settings.bands:
        usual = torch.full((len(rows),), psf_value(settings, band), dtype=torch.float64, device=rows.device)  # (B,)
        own = catalog.get(f"psfsize_{band}")
        if own is not None:
            usual = (own.double() / settings.pixel_scale / FWHM).where(own.isfinite() & (own > 0), usual)
        bands.append(usual)
    return torch.stack(bands, 1).clamp_min(NARROWEST)


def paste(images: Tensor, p: Placed, sigma: Tensor, settings: GalaxySettings, bank: Bank) -> Tensor:
    """Add to pictures (B, C, H, W) what was placed on them; σ of stars (B, C) px. Returns new pictures."""
    out = images.float().clone()
    for s in range(p.on.shape[1]):
        stars, objects = (torch.nonzero(p.on[:, s] & kind)[:, 0] for kind in (p.star[:, s], ~p.star[:, s]))
        if len(objects):
            light = objects_at(p, objects, s, bank)  # (n, C, H, W)
            out[objects] = added(out[objects], light, settings.dtype)
        if len(stars):
            flux = own_flux(images[stars], settings)[:, None] * p.flux[stars, s, None] * bank.colors[p.other[stars, s]]
            light = stars_at(p.x[stars, s], p.y[stars, s], flux, sigma[stars], settings.foreground, out)
            out[stars] = added(out[stars], shown(light, settings.dtype), settings.dtype)
    return out


def objects_at(p: Placed, rows: Tensor, s: int, bank: Bank) -> Tensor:
    """The objects of the bank (n, C, H, W) where and as they were placed on some rows (n,)."""
    pictures = bank.pictures[p.other[rows, s]]  # (n, C, H, W)
    H, W = pictures.shape[2:]
    # What lies at offset d from the picture's center came from the offset mirror·R(−angle)·(d − place).
    cos, sin = p.angle[rows, s].cos(), p.angle[rows, s].sin()  # (n,)
    sign = 1.0 - 2.0 * p.mirrored[rows, s].to(cos.dtype)
    matrix = torch.stack([torch.stack([sign * cos, sign * sin], -1), torch.stack([-sin, cos], -1)], -2)  # (n, 2, 2)
    place = torch.stack([p.x[rows, s], p.y[rows, s]], -1)  # (n, 2)
    half = matrix.new_tensor([W / 2, H / 2])  # grid_sample counts in half widths
    theta = torch.cat([matrix * half, -matrix @ place[..., None]], -1) / half[:, None]  # (n, 2, 3)
    grid = F.affine_grid(theta.to(pictures.dtype), list(pictures.shape), align_corners=False)  # (n, H, W, 2)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def stars_at(x: Tensor, y: Tensor, flux: Tensor, sigma: Tensor, step: Foreground, like: Tensor) -> Tensor:
    """Point sources (n, C, H, W): x, y (n,) px from the center, flux and σ (n, C), sampled at the pixels' centers."""
    H, W = like.shape[2:]
    across, down = (torch.arange(size, device=like.device) - (size - 1) / 2 for size in (W, H))
    dx, dy = across - x[:, None], down - y[:, None]  # (n, W), (n, H)
    r2 = (dx.square()[:, None, None, :] + dy.square()[:, None, :, None]).to(like.dtype)  # (n, 1, H, W)
    if step.profile == "gaussian":
        width = 2 * sigma.square()  # (n, C)
        top, shape = flux / (pi * width), torch.exp(-r2 / width.to(like.dtype)[..., None, None])
    else:
        # Moffat (1969): (1 + r²/α²)^−β of the same full width at half maximum.
        alpha2 = (FWHM * sigma / 2).square() / (2 ** (1 / step.beta) - 1)  # (n, C)
        top = flux * (step.beta - 1) / (pi * alpha2)
        shape = (1 + r2 / alpha2.to(like.dtype)[..., None, None]).pow(-step.beta)
    return top.to(like.dtype)[..., None, None] * shape


def own_flux(images: Tensor, settings: GalaxySettings) -> Tensor:
    """Each object's own light (n,), mean of the bands, nearer to the center than any foreground is pasted.

    Above the median of the border pixels; where it is below FAINTEST times its error from the scatter of the border
    pixels (1.4826 times their median absolute deviation), it is that.
    """
    light = linear(images.double(), settings.dtype)  # (n, C, H, W)
    light = (light - border(light).median(-1).values[..., None, None]).mean(1)  # (n, H, W)
    H, W = light.shape[1:]
    across, down = (torch.arange(size, device=light.device) - (size - 1) / 2 for size in (W, H))
    inside = across.square() + down.square()[:, None] <= (settings.foreground.near * settings.size) ** 2  # (H, W)
    edge = border(light)  # (n, P)
    error = 1.4826 * (edge - edge.median(-1, keepdim=True).values).abs().median(-1).values * inside.sum().sqrt()
    return torch.maximum((light * inside).sum((1, 2)), FAINTEST * error)


def border(images: Tensor) -> Tensor:
    """The outermost pixels (…, P) of pictures (…, H, W)."""
    sides = [images[..., 0, :], images[..., -1, :], images[..., 1:-1, 0], images[..., 1:-1, -1]]
    return torch.cat(sides, -1)


def added(below: Tensor, light: Tensor, dtype: str) -> Tensor:
    """A picture with another one's light added: see the module's head."""
    return below + light if dtype == "float32" else below + light * (1 - below / WHITE)


def without_sky(images: Tensor, dtype: str) -> Tensor:
    """What added to the sky, the border's median in each band, gives the picture: (…, C, H, W) → the same."""
    sky = border(images).median(-1).values[..., None, None]
    if dtype == "float32":
        return images - sky
    return ((images - sky) / (1 - sky / WHITE).clamp_min(1 / WHITE)).clamp(0, WHITE)


def linear(images: Tensor, dtype: str) -> Tensor:
    """The light that adds up: flux as it is, of an 8-bit picture −ln(1 − value/255)."""
    return images if dtype == "float32" else -torch.log1p(-images.clamp(0, BRIGHTEST) / WHITE)


def shown(light: Tensor, dtype: str) -> Tensor:
    """How much light looks in a stored picture, the inverse of `linear`."""
    return light if dtype == "float32" else -WHITE * torch.expm1(-light)
