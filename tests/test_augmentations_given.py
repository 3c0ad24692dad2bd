"""What a person gives of a domain's settings: faults name their whole path, and bands are those of the data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lookalike.augmentations import DOMAINS
from lookalike.augmentations.galaxy_settings import GalaxySettings, default_settings
from lookalike.augmentations.given import with_given
from lookalike.config import Config
from lookalike.errors import InputError
from lookalike.samples import About, Samples
from lookalike.ssl.checks import settle
from lookalike.ssl.plan import make_plan
from lookalike.ssl.settings import TrainConfig

ROOT = Path(__file__).resolve().parent.parent
WIDTH = {"kind": "uniform", "low": 1.0, "high": 2.0}
BY_BAND = {  # setting → a value of one band
    "extinction.coefficients": -1.0,
    "blur.bands": WIDTH,
    "blur.measured": 1.0,
    "noise.bands": WIDTH,
    "noise.measured": 1.0,
    "foreground.psf": 1.5,
    "input.scales": 3.0,
}


def defaults(*bands: str, unit: str = "") -> Config:
    return default_settings(About(domain="galaxy", bands=bands, unit=unit), 64, frozenset())[0]


def nested(path: str, value: object) -> dict[str, Any]:
    for name in reversed(path.split(".")):
        value = {name: value}
    return value  # type: ignore[return-value]


@pytest.mark.parametrize("path", BY_BAND)
def test_a_band_that_the_data_lack_is_refused(path: str) -> None:
    settings, value = defaults("R", "G", "B"), BY_BAND[path]
    with pytest.raises(InputError) as error:
        with_given(settings, nested(path, {"R": value, "X": value}), ("R", "G", "B"))
    assert error.value.message == f"Unknown band 'X'. Choices: R, G, B. (in augment.{path})"
    assert error.value.code == "unknown_band"
    given = dict.fromkeys("RGB", value)
    changed = with_given(settings, nested(path, given), ("R", "G", "B")).model_dump()
    step, name = path.split(".")
    assert changed[step][name].keys() >= set("RGB")
    with_given(settings, nested(path, {"X": value}), None)  # of a run that is resumed


def test_no_setting_by_band_is_forgotten() -> None:
    values = defaults("g", "r", "z", unit="nanomaggy").model_dump()
    assert set(BY_BAND) == {
        f"{step}.{name}" for step, inner in values.items() if isinstance(inner, dict)
        for name, value in inner.items() if isinstance(value, dict) and "kind" not in value
    }  # fmt: skip


def test_what_a_domain_knows_of_other_bands_stays() -> None:
    settings = defaults("g", "r", unit="nanomaggy")
    assert isinstance(settings, GalaxySettings)
    assert {"z", "W1"} <= settings.extinction.coefficients.keys()
    assert "z" in settings.blur.bands
    assert with_given(settings, {}, ("g", "r")) == settings
    with pytest.raises(InputError, match=r"Unknown band 'z'\. Choices: g, r\. \(in augment\.noise\.bands\)"):
        with_given(settings, {"noise": {"bands": {"z": WIDTH}}}, ("g", "r"))


def test_the_recipes_name_the_bands_of_their_data() -> None:
    for recipe in sorted((ROOT / "docs" / "recipes").glob("*.json")):
        with_given(defaults("R", "G", "B"), json.loads(recipe.read_text())["augment"], ("R", "G", "B"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": 1}, "Unknown setting 'x'. Choices: bands, dtype, "),
        ({"blur": {"width": 1}}, "Unknown setting 'width'. Choices: enabled, bands, measured. (in augment.blur)"),
        ({"blur": {"bands": {"R": {"s": -1}}}}, "Setting augment.blur.bands.R.s must be above 0, but -1 was given."),
        ({"blur": 3}, "Setting augment.blur must hold named values, but 3 was given."),
        ({"blur": {"bands": 3}}, "Setting augment.blur.bands must hold named values, but 3 was given."),
        ({"blur": {"enabled": True}}, "Setting augment: blur.bands has no numbers for R, G, B; give them or set"),
    ],
)
def test_a_fault_names_its_whole_path(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        with_given(defaults("R", "G", "B"), given, ("R", "G", "B"))
    assert error.value.message.startswith(message)
    assert given != {"x": 1} or error.value.message.endswith(". (in augment)")


def test_training_refuses_it_before_and_after_torch_is_loaded(blob_samples: Callable[..., Path]) -> None:
    samples = Samples(blob_samples(n=16))
    assert samples.about.domain in DOMAINS
    config = TrainConfig.checked({"augment": {"noise": {"bands": {"X": WIDTH}}}, "batch_size": 4})
    for check in (settle, make_plan):
        with pytest.raises(InputError, match=r"Unknown band 'X'\. Choices: R, G, B\. \(in augment\.noise\.bands\)"):
            check(samples, config)
