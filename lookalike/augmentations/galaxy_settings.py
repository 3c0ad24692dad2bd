"""The numbers of the galaxy augmentations: the published ones, and which of them a given data set can use.

Numbers: Stein et al. (2021), arXiv:2110.13151, fits to the DESI Legacy Surveys in g, r, z at 0.262 arcsec/px.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lookalike.augmentations.drawing import LUPTON_M, LUPTON_Q, LUPTON_SCALES, is_flux
from lookalike.augmentations.preprocess import one_per_band
from lookalike.config import Config
from lookalike.errors import InputError
from lookalike.samples import About

if TYPE_CHECKING:
    import torch

LEGACY_PIXEL = 0.262  # arcsec/px
FWHM = 2.3548  # of a Gaussian, in σ
STORED, VIEW, SHIFT = 152, 96, 7  # px; other sizes keep these proportions


class Distribution(Config):
    """A number's distribution: lognormal as scipy has it, loc + scale·exp(s·N(0, 1)), or uniform, within low–high."""

    kind: Literal["lognormal", "uniform"] = "lognormal"
    s: Annotated[float, Field(gt=0)] = 1.0
    loc: float = 0.0
    scale: Annotated[float, Field(gt=0)] = 1.0
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.kind == "uniform" and (self.low is None or self.high is None):
            raise ValueError("a uniform distribution needs low and high")
        if self.high is not None and self.high <= self.least():
            raise ValueError("the range low-high holds no value of the distribution")
        return self

    def draw(self, u: torch.Tensor) -> torch.Tensor:
        """The values at uniforms u in (0, 1), float64."""
        from lookalike.augmentations.draws import truncated_lognormal

        if self.kind == "uniform":
            assert self.low is not None
            assert self.high is not None
            return self.low + u * (self.high - self.low)
        return truncated_lognormal(u, self.s, self.loc, self.scale, self.low, self.high)

    def least(self) -> float:
        """What no draw lies below."""
        ends = (self.low, self.loc if self.kind == "lognormal" else None)
        return max((end for end in ends if end is not None), default=-math.inf)

    def median(self) -> float:
        """The value half of the draws lie below."""
        if self.kind == "uniform":
            assert self.low is not None
            assert self.high is not None
            return (self.low + self.high) / 2
        middle = (self._below(self.low, 0.0) + self._below(self.high, 1.0)) / 2
        return self.loc + self.scale * math.exp(self.s * NormalDist().inv_cdf(middle))

    def with_median(self, median: float) -> Distribution:
        """The same shape stretched to another median: the scatter of one survey, as a share, around a measurement."""
        f = median / self.median()
        ends = {name: None if end is None else end * f for name, end in (("low", self.low), ("high", self.high))}
        return Distribution(kind=self.kind, s=self.s, loc=self.loc * f, scale=self.scale * f, **ends)

    def _below(self, end: float | None, unbounded: float) -> float:
        """The untruncated lognormal's probability below an end of the range."""
        if end is None:
            return unbounded
        return NormalDist().cdf(math.log((end - self.loc) / self.scale) / self.s) if end > self.loc else 0.0


def _not_negative(distribution: Distribution) -> Distribution:
    if distribution.least() < 0:
        raise ValueError("no draw may be negative: give it a low of at least 0")
    return distribution


NotNegative = Annotated[Distribution, AfterValidator(_not_negative)]

# A number's distribution in the published fits: PSF σ in px, noise σ in nanomaggies per px; extinction as 10^(c·E).
PSF = {
    "g": Distribution(s=0.2109966, loc=1.0807153, scale=1.3153171, low=1.3233109, high=5.0),
    "r": Distribution(s=0.3008485, loc=1.2394326, scale=0.9164757, low=1.2667341, high=4.5),
    "z": Distribution(s=0.3471172, loc=1.1928363, scale=0.8233702, low=1.2126263, high=4.25),
}
NOISE = {
    "g": Distribution(s=0.2264926, loc=-0.0006735, scale=0.0037602, low=0.001094, high=0.013),
    "r": Distribution(s=0.2431146, loc=-0.0023663, scale=0.0067417, low=0.001094, high=0.018),
    "z": Distribution(s=0.1334844, loc=-0.0143416, scale=0.0260779, low=0.001094, high=0.061),
}
EXTINCTION_COEFFICIENTS = {"g": -1.2856, "r": -0.866, "z": -0.4844, "W1": -0.0736, "W2": -0.0452}


class Extinction(Config):
    """Step 1: take off the object's tabulated E(B−V) (column ebv), redden by another; flux goes as 10^(c·E)."""

    enabled: bool = True
    ebv: Distribution = Distribution(s=0.67306, loc=0.001146, scale=0.03338)  # mag
    coefficients: dict[str, float] = Field(default_factory=lambda: dict(EXTINCTION_COEFFICIENTS))


class Orientation(Config):
    """Step 2: mirror each axis with the given probability; rotate by any angle."""

    enabled: bool = True
    flip_probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    rotate: bool = True


class Size(Config):
    """Step 3: scale both axes alike by U(low, high)."""

    enabled: bool = True
    low: Annotated[float, Field(gt=0)] = 0.9
    high: Annotated[float, Field(gt=0)] = 1.1


class Blur(Config):
    """Step 4: blur each band to a new PSF, σ in px, by √max(0, σ_new² − σ_old²).

    σ_old: column psfsize_<band> (FWHM in arcsec), else `measured`, else the median of `bands`.
    """

    enabled: bool = True
    bands: dict[str, NotNegative] = Field(default_factory=lambda: dict(PSF))
    measured: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)


class Jitter(Config):
    """Step 5: shift by whole px, U{−pixels … pixels} on each axis, before the central crop."""

    enabled: bool = True
    pixels: Annotated[int, Field(ge=0)] = SHIFT


class Noise(Config):
    """Step 6: add noise up to a new level, σ per px in stored units, by √max(0, σ_new² − σ_old²).

    σ_old: columns psfdepth_<band> (nanomaggies⁻²) and psfsize_<band>, else `measured`, else the median of `bands`.
    """

    enabled: bool = True
    bands: dict[str, NotNegative] = Field(default_factory=lambda: dict(NOISE))
    measured: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)


class Foreground(Config):
    """Off by default, before all six steps: stars, or other objects of the set, pasted off center.

    `probability` of a view to get any, then 1 to `number` alike. `stars` : their share, the rest are objects as they
    are. `flux` : a star's total over the object's own, mean of the bands. `near`, `far` : distances from the object, in
    shares of the view's width; places are uniform over the area between. `profile` : of a star, Moffat's with exponent
    `beta`, or Gaussian, as wide as column psfsize_<band> says, else `psf` (σ in px), else what the blur step starts
    from. `bank` : how many objects of the set, drawn by the seed, are kept for pasting.
    """

    enabled: bool = False
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    number: Annotated[int, Field(ge=1, le=10)] = 1
    stars: Annotated[float, Field(ge=0, le=1)] = 0.5
    flux: NotNegative = Distribution(s=1.0, loc=0.0, scale=2.0, low=0.2, high=20.0)
    near: Annotated[float, Field(gt=0, lt=1)] = 0.2
    far: Annotated[float, Field(gt=0, le=1)] = 0.5
    profile: Literal["moffat", "gaussian"] = "moffat"
    beta: Annotated[float, Field(gt=1)] = 3.5
    psf: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    bank: Annotated[int, Field(ge=2)] = 256

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.near >= self.far:
            raise ValueError(f"near is below far, but they are {self.near}, {self.far}")
        return self


class Input(Config):
    """What the encoder is given of a view; see `Preprocess`."""

    kind: Literal["lupton", "scaled", "flux"] = "lupton"
    scales: dict[str, float] = Field(default_factory=lambda: dict(LUPTON_SCALES))
    m: float = LUPTON_M
    Q: Annotated[float, Field(gt=0)] = LUPTON_Q
    divisor: Annotated[float, Field(gt=0)] = 1.0
    mean: float | tuple[float, ...] = 0.0
    std: Annotated[float, Field(gt=0)] | tuple[Annotated[float, Field(gt=0)], ...] = 1.0


class GalaxySettings(Config):
    """How a stored galaxy becomes a view: six steps in the published order, each with its numbers and a switch.

    Before them `foreground`, which is off unless asked for.

    `size` is the view's in px, `pixel_scale` in arcsec/px turns psfsize into px, `clip` bounds the view's values.
    """

    bands: tuple[str, ...] = ("g", "r", "z")
    dtype: Literal["float32", "uint8"] = "float32"
    size: Annotated[int, Field(gt=0)] = VIEW
    pixel_scale: Annotated[float, Field(gt=0)] = LEGACY_PIXEL
    clip: tuple[float, float] | None = None
    foreground: Foreground = Foreground()
    extinction: Extinction = Extinction()
    orientation: Orientation = Orientation()
    scaling: Size = Size()
    blur: Blur = Blur()
    jitter: Jitter = Jitter()
    noise: Noise = Noise()
    input: Input = Input()

    @model_validator(mode="after")
    def _numbers_for_every_band(self) -> Self:
        for path, needed, known in (
            ("extinction.coefficients", self.extinction.enabled, self.extinction.coefficients),
            ("blur.bands", self.blur.enabled, self.blur.bands),
            ("noise.bands", self.noise.enabled, self.noise.bands),
            (
                "foreground.psf",
                self.foreground.enabled,
                {**self.blur.bands, **self.blur.measured, **self.foreground.psf},
            ),
            ("input.scales", self.input.kind == "lupton", self.input.scales),
        ):
            missing = [band for band in self.bands if band not in known]
            if needed and missing:
                switch = f"{path.split('.')[0]}.enabled=false" if path != "input.scales" else "input.kind=flux"
                raise ValueError(f"{path} has no numbers for {', '.join(missing)}; give them or set augment.{switch}")
        one_per_band(self.bands, **{"input.mean": self.input.mean, "input.std": self.input.std})
        if self.scaling.low > self.scaling.high:
            raise ValueError(
                f"scaling.low is at most scaling.high, but they are {self.scaling.low}, {self.scaling.high}"
            )
        return self


def default_settings(
    about: About, stored_size: int, columns: frozenset[str], dtype: str | None = None
) -> tuple[GalaxySettings, list[str]]:
    """The steps whose numbers are known for this data set, and notes on what is missing and what stands in.

    g, r, z fluxes in nanomaggies at 0.262 arcsec/px have the published numbers. Elsewhere blur and noise start from
    what the source measured of itself (`about.survey`: psf_sigma in px and noise in stored units, by band) and scatter
    around it as the published fits in r do, as a share, since one picture shows no scatter of its own; without that
    they are off, as is extinction where no coefficients apply. The geometric steps need no numbers.
    """
    if stored_size < 8:
        raise InputError(
            f"Galaxy pictures are at least 8 px wide, but are stored with {stored_size} px; the domain image takes any."
        )
    flux = is_flux(about) and dtype != "uint8"
    kept: Literal["float32", "uint8"] = "float32" if flux or dtype == "float32" else "uint8"
    size = max(8, 8 * round(stored_size * VIEW / STORED / 8))
    shift = max(1, round(SHIFT * size / VIEW))
    # A scale read from a header carries rounding.
    legacy = flux and math.isclose(about.pixel_scale or LEGACY_PIXEL, LEGACY_PIXEL, rel_tol=1e-3)
    settings = GalaxySettings(
        bands=about.bands,
        dtype=kept,
        size=size,
        pixel_scale=about.pixel_scale or LEGACY_PIXEL,
        clip=(0.0, 255.0) if kept == "uint8" else None,
        extinction=Extinction(enabled=flux and set(about.bands) <= set(EXTINCTION_COEFFICIENTS)),
        blur=_blur(about, legacy),
        jitter=Jitter(pixels=shift),
        noise=_noise(about, legacy),
        input=_input(about.bands, kept, flux),
    )
    notes = [f"views: {size} of {stored_size} px, shifted by up to {shift} px on each axis."]
    if flux and about.pixel_scale is None and (settings.blur.enabled or settings.noise.enabled):
        notes.append(f"pixel scale: not known; {LEGACY_PIXEL} arcsec/px is taken, as in the Legacy Surveys.")
    return settings, notes + _switched_off(settings) + _stand_ins(settings, columns)


def _blur(about: About, legacy: bool) -> Blur:
    if legacy and set(about.bands) <= set(PSF):
        return Blur()
    measured = _measured(about, "psf_sigma")
    bands = {band: PSF["r"].with_median(sigma) for band, sigma in measured.items()}
    return Blur(enabled=bool(bands), bands=bands, measured=measured)


def _noise(about: About, legacy: bool) -> Noise:
    if legacy and set(about.bands) <= set(NOISE):
        return Noise()
    measured = _measured(about, "noise")
    bands = {band: NOISE["r"].with_median(sigma) for band, sigma in measured.items()}
    return Noise(enabled=bool(bands), bands=bands, measured=measured)


def _measured(about: About, what: str) -> dict[str, float]:
    """The source's own measurement in every band, or nothing."""
    given = about.survey.get(what) or {}
    values = {band: float(given.get(band) or 0.0) for band in about.bands}
    return values if all(math.isfinite(v) and v > 0 for v in values.values()) else {}


def _input(bands: tuple[str, ...], dtype: str, flux: bool) -> Input:
    if dtype == "uint8":  # a galaxy on dark sky: few pixels are bright
        return Input(kind="scaled", divisor=255.0, mean=0.1, std=0.2)
    return Input(kind="lupton" if flux and set(bands) <= set(LUPTON_SCALES) else "flux")


def _switched_off(settings: GalaxySettings) -> list[str]:
    """One note for each step that is off for want of numbers, with the settings that switch it on."""
    bands = ", ".join(settings.bands)
    notes = []
    if not settings.extinction.enabled:
        reason = "8-bit pictures have no tabulated one" if settings.dtype == "uint8" else f"no coefficients for {bands}"
        notes.append(f"extinction: off, {reason} (augment.extinction.coefficients).")
    for name, step in (("blur", settings.blur), ("noise", settings.noise)):
        if not step.enabled:
            key = f"augment.{name}"
            give = f'--set {key}.bands.BAND=\'{{"s": S, "loc": L, "scale": C}}\' for each and --set {key}.enabled=true'
            notes.append(f"{name}: off, neither published nor measured for {bands}; to switch it on, {give}.")
    if settings.input.kind == "flux":
        notes.append(
            f"input: pixels as stored, no color scales for {bands} (augment.input.scales, augment.input.kind=lupton)."
        )
    return notes


def _stand_ins(settings: GalaxySettings, columns: frozenset[str]) -> list[str]:
    """One note for each step whose own values are not in the catalog, with what is used instead."""
    notes = []
    if settings.extinction.enabled and "ebv" not in columns:
        notes.append(f"extinction: no column ebv; its median {settings.extinction.ebv.median():.4f} mag is used.")
    for name, step, unit in (("blur", settings.blur, "px"), ("noise", settings.noise, "per px")):
        missing = [column for column in own_columns(name, settings.bands) if column not in columns]
        if step.enabled and missing:
            values = ", ".join(f"{old_value(step, band):.3g}" for band in settings.bands)
            if step.measured:
                notes.append(f"{name}: starts from the data set's own σ, measured as {values} {unit}.")
            else:
                notes.append(f"{name}: no column {', '.join(missing)}; the median σ ({values} {unit}) is used.")
    return notes


def own_columns(step: str, bands: Iterable[str]) -> list[str]:
    """The catalog columns that hold each object's own PSF or noise."""
    kinds = {"blur": ["psfsize"], "noise": ["psfdepth", "psfsize"]}[step]
    return [f"{kind}_{band}" for kind in kinds for band in bands]


def old_value(step: Blur | Noise, band: str) -> float:
    """σ_old of a band where the catalog does not have the object's own: what was measured, else the median."""
    return step.measured.get(band) or step.bands[band].median()


def psf_value(settings: GalaxySettings, band: str) -> float:
    """A star's σ in px in a band where the catalog does not have the object's own."""
    return settings.foreground.psf.get(band) or old_value(settings.blur, band)
