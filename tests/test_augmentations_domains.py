"""One battery over every domain: what each must keep to, whatever its augmentations are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lookalike.augmentations import DOMAINS, get_domain
from lookalike.augmentations.domain import Domain
from lookalike.augmentations.drawing import stretches_for
from lookalike.augmentations.draws import Draws
from lookalike.augmentations.inputs import encoder_input
from lookalike.augmentations.preprocess import Preprocess
from lookalike.errors import InputError
from lookalike.samples import About

B = 6
COLUMNS = frozenset({"ebv", "psfsize_g", "psfsize_r", "psfsize_z", "psfdepth_g", "psfdepth_r", "psfdepth_z", "mag"})
KINDS = {
    "color": (("R", "G", "B"), "", "uint8", 52),
    "gray": (("gray",), "", "uint8", 28),
    "flux": (("g", "r", "z"), "nanomaggies", "float32", 64),
    "many": (("u", "g", "r", "i", "z"), "count", "float32", 41),
}


@pytest.fixture(params=DOMAINS)
def domain(request: pytest.FixtureRequest) -> Domain:
    return DOMAINS[request.param]


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, domain: Domain) -> tuple[Domain, About, Any, torch.Tensor, dict[str, Any]]:
    """A domain with its default settings for one kind of data, a batch and its catalog."""
    bands, unit, dtype, size = KINDS[request.param]
    about = About(domain=domain.name, bands=bands, unit=unit)
    settings, notes = domain.settings(about, size, COLUMNS, dtype)
    assert isinstance(settings, domain.settings_type)
    assert all("\n" not in note for note in notes)
    rng = np.random.default_rng(0)
    images = (
        rng.integers(0, 256, (B, len(bands), size, size))
        if dtype == "uint8"
        else rng.random((B, len(bands), size, size))
    )
    read = domain.columns(settings, bands, COLUMNS)
    assert set(read) <= COLUMNS
    catalog = {name: torch.from_numpy(rng.uniform(0.1, 2.0, B)) for name in read}
    return domain, about, settings, torch.from_numpy(images.astype(np.float32)), catalog


def test_views_have_the_encoders_size_type_and_finite_values(case: Any) -> None:
    domain, about, settings, images, catalog = case
    kept = images.clone()
    seen = domain.view(images, catalog, Draws(0, 0, torch.arange(B), 0), settings)
    preprocess = domain.preprocess(about, settings)
    assert isinstance(preprocess, Preprocess)
    assert Preprocess.model_validate_json(preprocess.model_dump_json()) == preprocess
    assert seen.shape == (B, len(about.bands), preprocess.size, preprocess.size)
    assert seen.dtype == torch.float32
    assert torch.equal(images, kept), "a view must not change what is stored"
    for pictures in (seen, images):
        given = encoder_input(pictures, preprocess)
        assert given.shape == seen.shape
        assert given.isfinite().all()


def test_views_follow_from_seed_epoch_row_and_view_alone(case: Any) -> None:
    domain, _, settings, images, catalog = case
    rows = torch.tensor([40, 7, 11, 900, 3, 5])
    whole = domain.view(images, catalog, Draws(1, 2, rows, 0), settings)
    again = domain.view(images, catalog, Draws(1, 2, rows, 0), settings)
    assert torch.equal(whole, again)
    part = torch.tensor([4, 0, 3])
    fewer = domain.view(images[part], {k: v[part] for k, v in catalog.items()}, Draws(1, 2, rows[part], 0), settings)
    torch.testing.assert_close(fewer, whole[part], rtol=1e-5, atol=1e-4)
    for other in (Draws(1, 2, rows, 1), Draws(1, 3, rows, 0), Draws(2, 2, rows, 0), Draws(1, 2, rows + 1, 0)):
        different = (domain.view(images, catalog, other, settings) - whole).abs().amax((1, 2, 3))
        assert (different > 1e-3).all()


def test_settings_are_saved_and_read_back(case: Any) -> None:
    domain, _, settings, _, _ = case
    assert domain.settings_type.model_validate_json(settings.model_dump_json()) == settings


def test_default_drawing_and_every_offered_stretch_are_known(case: Any) -> None:
    domain, about, _, images, _ = case
    stored = images[0].numpy().astype(np.uint8 if about.unit == "" else np.float32)
    assert isinstance(domain.draw(stored, about, domain.stretches[0], 48), Image.Image)
    for stretch in domain.stretches:
        if stretch in stretches_for(about, stored.dtype):
            assert max(domain.draw(stored, about, stretch, 48).size) == 48
        else:
            with pytest.raises(InputError, match="Unknown stretch for these data"):
                domain.draw(stored, about, stretch, 48)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_views_on_a_gpu_equal_those_on_the_cpu(case: Any) -> None:
    domain, _, settings, images, catalog = case
    draws = Draws(0, 0, torch.arange(B), 0)
    here = domain.view(images, catalog, draws, settings)
    there = domain.view(images.cuda(), {k: v.cuda() for k, v in catalog.items()}, draws.to("cuda"), settings)
    scale = float(images.max())
    torch.testing.assert_close(there.cpu() / scale, here / scale, rtol=0, atol=1e-3)


def test_domain_names_and_unknown_ones() -> None:
    assert all(name == domain.name for name, domain in DOMAINS.items())
    assert get_domain("galaxy") is DOMAINS["galaxy"]
    with pytest.raises(InputError, match=r"Unknown domain 'galxy'\. Did you mean 'galaxy'\? Choices: galaxy, image"):
        get_domain("galxy")
