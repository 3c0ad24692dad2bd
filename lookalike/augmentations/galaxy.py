"""Galaxies: what a telescope, the sky and chance could have made of the same galaxy, as six augmentations.

Stein et al. (2021), arXiv:2110.13151, in the published order: extinction, orientation, size, PSF blur, jitter and
crop, noise; before them, where asked for, a foreground. The numbers are in `galaxy_settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import pi
from typing import TYPE_CHECKING

from lookalike.augmentations.bank import read_bank
from lookalike.augmentations.domain import Domain
from lookalike.augmentations.drawing import STRETCHES, draw
from lookalike.augmentations.galaxy_settings import (
    FWHM,
    Blur,
    GalaxySettings,
    Noise,
    default_settings,
    old_value,
    own_columns,
)
from lookalike.augmentations.preprocess import Preprocess
from lookalike.errors import InputError
from lookalike.samples import About

if TYPE_CHECKING:
    import torch

    from lookalike.augmentations.bank import Bank
    from lookalike.augmentations.draws import Draws


@dataclass
class Parameters:
    """What `view` does to each galaxy of a batch. B batch, C bands; float64 unless said; σ of 0 means no change.

    ebv_old, ebv_new : (B,) mag. flip_x, flip_y : (B,) bool. angle : (B,) radians. scale : (B,). shift_x, shift_y :
    (B,) int64 px. psf_old, psf_new, psf_add : (B, C) σ in px. noise_old, noise_new, noise_add : (B, C) σ in stored
    units.
    """

    ebv_old: torch.Tensor
    ebv_new: torch.Tensor
    flip_x: torch.Tensor
    flip_y: torch.Tensor
    angle: torch.Tensor
    scale: torch.Tensor
    shift_x: torch.Tensor
    shift_y: torch.Tensor
    psf_old: torch.Tensor
    psf_new: torch.Tensor
    psf_add: torch.Tensor
    noise_old: torch.Tensor
    noise_new: torch.Tensor
    noise_add: torch.Tensor


def parameters(catalog: Mapping[str, torch.Tensor], draws: Draws, settings: GalaxySettings) -> Parameters:
    """Draw what happens to each galaxy; a step that is switched off leaves its neutral value.

    catalog : {column: (B,) float64}; a column that is absent, or an entry that is not finite (or not positive, for
    psfsize and psfdepth), is replaced by the value the settings name.
    """
    import torch

    rows = draws.rows
    zero = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)  # (B,)
    no, none = zero > 0, zero[:, None].expand(-1, len(settings.bands))  # (B,), (B, C)
    p = Parameters(zero, zero, no, no, zero, zero + 1, zero, zero, *([none] * 6))
    if (extinction := settings.extinction).enabled:
        p.ebv_old = _own(catalog.get("ebv"), zero + extinction.ebv.median())
        p.ebv_new = extinction.ebv.draw(draws.uniform("ebv"))
    if (orientation := settings.orientation).enabled:
        p.flip_x = draws.uniform("flip_x") < orientation.flip_probability
        p.flip_y = draws.uniform("flip_y") < orientation.flip_probability
        p.angle = draws.uniform("angle") * 2 * pi if orientation.rotate else zero
    if (scaling := settings.scaling).enabled:
        p.scale = scaling.low + draws.uniform("scale") * (scaling.high - scaling.low)
    if (jitter := settings.jitter).enabled:
        choices = 2 * jitter.pixels + 1
        p.shift_x = (draws.uniform("shift_x") * choices).floor().long() - jitter.pixels
        p.shift_y = (draws.uniform("shift_y") * choices).floor().long() - jitter.pixels
    if settings.blur.enabled:
        p.psf_old = torch.stack([_psf(catalog, b, settings, settings.blur, zero) for b in settings.bands], 1)
        p.psf_new = _new(settings.blur, draws, "psf", settings.bands)
        p.psf_add = (p.psf_new.square() - p.psf_old.square()).clamp_min(0).sqrt()
    if settings.noise.enabled:
        p.noise_old = torch.stack([_noise(catalog, b, settings, zero) for b in settings.bands], 1)
        p.noise_new = _new(settings.noise, draws, "noise_level", settings.bands)
        p.noise_add = (p.noise_new.square() - p.noise_old.square()).clamp_min(0).sqrt()
    return p


def _new(step: Blur | Noise, draws: Draws, name: str, bands: tuple[str, ...]) -> torch.Tensor:
    """σ_new (B, C), each band on its own."""
    import torch

    return torch.stack([step.bands[band].draw(draws.uniform(f"{name}_{band}")) for band in bands], 1)


def _own(values: torch.Tensor | None, otherwise: torch.Tensor, positive: bool = False) -> torch.Tensor:
    """An object's own value (B,) where the catalog has a usable one."""
    if values is None:
        return otherwise
    usable = values.isfinite() & (values > 0) if positive else values.isfinite()
    return values.double().where(usable, otherwise)


def _psf(
    catalog: Mapping[str, torch.Tensor], band: str, settings: GalaxySettings, step: Blur, zero: torch.Tensor
) -> torch.Tensor:
    """The object's own PSF (B,), σ in px: psfsize is its FWHM in arcsec."""
    psfsize = catalog.get(f"psfsize_{band}")
    sigma = None if psfsize is None else psfsize / settings.pixel_scale / FWHM
    return _own(sigma, zero + old_value(step, band), positive=True)


def _noise(
    catalog: Mapping[str, torch.Tensor], band: str, settings: GalaxySettings, zero: torch.Tensor
) -> torch.Tensor:
    """The object's own noise (B,), σ per px: 1/σ² = psfdepth·4π·(PSF σ in px)²."""
    psfdepth, psfsize = catalog.get(f"psfdepth_{band}"), catalog.get(f"psfsize_{band}")
    sigma = None
    if psfdepth is not None and psfsize is not None:
        area = 4 * pi * (psfsize / FWHM / settings.pixel_scale).square()
        sigma = (psfdepth * area).rsqrt().where((psfdepth > 0) & (psfsize > 0), zero)
    return _own(sigma, zero + old_value(settings.noise, band), positive=True)


def view(
    images: torch.Tensor,
    catalog: Mapping[str, torch.Tensor],
    draws: Draws,
    settings: GalaxySettings,
    bank: Bank | None = None,
) -> torch.Tensor:
    """One augmented view of each galaxy.

    images : (B, C, H, W) float32, stored units. catalog : {column: (B,) float64}. bank : what a foreground is taken
    from, needed where that step is on. Returns (B, C, size, size) float32 in stored units.
    """
    draws = draws.to(images.device)
    if settings.foreground.enabled:
        from lookalike.augmentations.foreground import with_foreground

        assert bank is not None, "a foreground is pasted from the domain's bank"
        images = with_foreground(images, catalog, draws, settings, bank)
    return apply(images, parameters(catalog, draws, settings), draws, settings)


def apply(images: torch.Tensor, p: Parameters, draws: Draws, settings: GalaxySettings) -> torch.Tensor:
    """Do to images (B, C, H, W) what the parameters say; returns (B, C, size, size)."""
    from lookalike.augmentations import ops

    _, C, H, W = images.shape
    size = settings.size
    if len(settings.bands) != C or min(H, W) < size:
        msg = f"Views of {size} px in {len(settings.bands)} bands cannot be cut from pictures of {C} × {H} × {W}."
        raise InputError(msg)
    # The published order enlarges first; blurring first with σ/scale is the same, and lets the orientation, the size,
    # the shift and the crop share one interpolation.
    x = ops.warp(
        images.float(),
        size,
        sigma=p.psf_add / p.scale[:, None] if settings.blur.enabled else None,
        flip_x=p.flip_x,
        flip_y=p.flip_y,
        angle=p.angle,
        scale=p.scale,
        shift_x=p.shift_x,
        shift_y=p.shift_y,
    )  # (B, C, h, w)
    if settings.extinction.enabled:
        # A factor for each band commutes with blurring and resampling, and the view has fewer pixels.
        coefficients = p.ebv_new.new_tensor([settings.extinction.coefficients[band] for band in settings.bands])
        x *= ops.transmission(p.ebv_new - p.ebv_old, coefficients).to(x.dtype)[..., None, None]
    if settings.noise.enabled:
        x = ops.add_noise_(x, p.noise_add, draws.normal("noise", C, size, size))
    return x if settings.clip is None else x.clamp_(*settings.clip)


def columns(settings: GalaxySettings, bands: tuple[str, ...], present: frozenset[str]) -> tuple[str, ...]:
    """The catalog columns `view` reads, those present only."""
    wanted = ["ebv"] if settings.extinction.enabled else []
    wanted += own_columns("blur", bands) if settings.blur.enabled or settings.foreground.enabled else []
    wanted += own_columns("noise", bands) if settings.noise.enabled else []
    return tuple(column for column in dict.fromkeys(wanted) if column in present)


def preprocess(about: About, settings: GalaxySettings) -> Preprocess:
    """What the encoder is given, by default the unclipped color image of the survey's viewer."""
    chosen = settings.input
    return Preprocess(
        kind=chosen.kind,
        size=settings.size,
        bands=about.bands,
        dtype=settings.dtype,
        unit=about.unit,
        pixel_scale=about.pixel_scale,
        m=chosen.m,
        Q=chosen.Q,
        scales=tuple(chosen.scales[band] for band in about.bands) if chosen.kind == "lupton" else (),
        divisor=chosen.divisor,
        mean=chosen.mean,
        std=chosen.std,
    )


def turns(settings: GalaxySettings) -> bool:
    """A galaxy has neither up nor down, and is as likely as its mirror image."""
    orientation = settings.orientation
    return orientation.enabled and orientation.rotate and orientation.flip_probability > 0


GALAXY = Domain(
    name="galaxy",
    settings_type=GalaxySettings,
    settings=default_settings,
    columns=columns,
    view=view,
    preprocess=preprocess,
    bank=read_bank,
    draw=draw,
    stretches=STRETCHES,
    windows=("mag_r:0.5", "mag:0.5"),
    turns=turns,
)
