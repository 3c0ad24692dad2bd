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
from lookalike.augmentations.preprocess import Seen
from lookalike.errors import InputError
from lookalike.samples import About

B = 6
COLUMNS = frozenset({"ebv", "psfsize_g", "psfsize_r", "psfsize_z", "psfdepth_g", "psfdepth_r", "psfdepth_z", "mag"})
KINDS = {
    "color": ("images", ("R", "G", "B"), "", "uint8", 52),
    "gray": ("images", ("gray",), "", "uint8", 28),
    "flux": ("images", ("g", "r", "z"), "nanomaggies", "float32", 64),
    "many": ("images", ("u", "g", "r", "i", "z"), "count", "float32", 41),
    "jets": ("particles", ("pt", "eta", "phi", "jet"), "", "float32", 30),
}
# What each domain of anything but pictures is tried on.
OWN = {"jet": ("jets",)}
CASES = [(name, kind) for name in DOMAINS for kind in OWN.get(name, [k for k in KINDS if KINDS[k][0] == "images"])]


def jets(rng: np.random.Generator, size: int) -> np.ndarray:
    """(B, size, 4): two jets of ten constituents each, and free places."""
    events = np.zeros((B, size, 4))
    events[:, :20] = rng.normal([0, 0, 0, 0], [1, 0.3, 0.3, 0], (B, 20, 4))
    events[:, :20, 0] = rng.exponential(40, (B, 20)) + 1
    events[:, 10:20, 3] = 1
    return events


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[Domain, About, Any, torch.Tensor, dict[str, Any]]:
    """A domain with its default settings for one kind of data, a batch and its catalog."""
    name, kind = request.param
    domain = DOMAINS[name]
    layout, bands, unit, dtype, size = KINDS[kind]
    about = About.checked({"domain": domain.name, "bands": bands, "unit": unit, "layout": layout})
    settings, notes = domain.settings(about, size, COLUMNS, dtype)
    assert isinstance(settings, domain.settings_type)
    assert all("\n" not in note for note in notes)
    rng = np.random.default_rng(0)
    if kind == "jets":
        objects = jets(rng, size)
    elif dtype == "uint8":
        objects = rng.integers(0, 256, (B, len(bands), size, size))
    else:
        objects = rng.random((B, len(bands), size, size))
    read = domain.columns(settings, bands, COLUMNS)
    assert set(read) <= COLUMNS
    catalog = {name: torch.from_numpy(rng.uniform(0.1, 2.0, B)) for name in read}
    return domain, about, settings, torch.from_numpy(objects.astype(np.float32)), catalog


def test_views_have_the_encoders_size_type_and_finite_values(case: Any) -> None:
    domain, about, settings, images, catalog = case
    kept = images.clone()
    seen = domain.view(images, catalog, Draws(0, 0, torch.arange(B), 0), settings)
    preprocess = domain.preprocess(about, settings)
    assert isinstance(preprocess, Seen)
    assert type(preprocess).model_validate_json(preprocess.model_dump_json()) == preprocess
    assert seen.dtype == torch.float32
    assert torch.equal(images, kept), "a view must not change what is stored"
    preprocess.check(tuple(seen.shape[1:]), np.dtype(preprocess.dtype))
    for objects in (seen, images):
        given = encoder_input(objects, preprocess)
        assert given.isfinite().all()
        assert given.dtype == torch.float32
        assert given[0].numel() == preprocess.numbers
        if "resnet" in preprocess.encoders:
            assert given.shape == (B, preprocess.channels, preprocess.size, preprocess.size)


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
        different = (domain.view(images, catalog, other, settings) - whole).abs().flatten(1).amax(1)
        assert (different > 1e-3).all()


def test_settings_are_saved_and_read_back(case: Any) -> None:
    domain, _, settings, _, _ = case
    assert domain.settings_type.model_validate_json(settings.model_dump_json()) == settings


def test_default_drawing_and_every_offered_stretch_are_known(case: Any) -> None:
    domain, about, _, images, _ = case
    stored = images[0].numpy().astype(np.uint8 if about.unit == "" and about.layout == "images" else np.float32)
    assert isinstance(domain.draw(stored, about, domain.stretches[0], 48), Image.Image)
    drawable = stretches_for(about, stored.dtype) if about.layout == "images" else domain.stretches
    for stretch in domain.stretches:
        if stretch in drawable:
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
