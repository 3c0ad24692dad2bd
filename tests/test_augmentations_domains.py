"""One battery over every domain: what each must keep to, whatever its augmentations are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter

from lookalike.augmentations import DOMAINS, get_domain
from lookalike.augmentations.domain import Domain
from lookalike.augmentations.drawing import stretches_for
from lookalike.augmentations.draws import Draws
from lookalike.augmentations.inputs import AnyInput, encoder_input
from lookalike.augmentations.preprocess import Seen
from lookalike.errors import InputError
from lookalike.events import PARTICLE, PRIMITIVES
from lookalike.samples import About

B = 6
COLUMNS = frozenset({"ebv", "psfsize_g", "psfsize_r", "psfsize_z", "psfdepth_g", "psfdepth_r", "psfdepth_z", "mag"})
KINDS = {
    "color": (("R", "G", "B"), "", "uint8", 52),
    "gray": (("gray",), "", "uint8", 28),
    "flux": (("g", "r", "z"), "nanomaggies", "float32", 64),
    "many": (("u", "g", "r", "i", "z"), "count", "float32", 41),
}


def higgs_records(rng: np.random.Generator) -> tuple[About, np.ndarray]:
    """Records of events with 0 to 3 jets."""
    names = list(PRIMITIVES)
    x = rng.exponential(40, (B, len(names))) + 20
    for place, name in enumerate(names):
        if name.endswith(("eta", "phi")):
            x[:, place] = rng.uniform(-2.5, 2.5, B)
    x[:, names.index("PRI_jet_num")] = np.arange(B) % 4
    for least, jet in ((1, "leading"), (2, "subleading")):
        for part in ("pt", "eta", "phi"):
            x[np.arange(B) % 4 < least, names.index(f"PRI_jet_{jet}_{part}")] = np.nan
    return About(domain="event", bands=tuple(names), layout="features"), x


def particle_lists(rng: np.random.Generator) -> tuple[About, np.ndarray]:
    """Events of 2 to 7 particles, the second of which is the missing momentum."""
    x = rng.uniform(-2.5, 2.5, (B, 7, len(PARTICLE)))
    x[..., 0] = -np.sort(-rng.exponential(40, (B, 7)) - 1)
    x[..., 3], x[..., 4] = rng.exponential(1, (B, 7)), rng.integers(1, 8, (B, 7))
    x[:, 1, 4] = 0
    for event in range(B):
        x[event, 2 + event :] = 0
    return About(domain="event", bands=tuple(PARTICLE), layout="particles"), x


def jets(rng: np.random.Generator) -> tuple[About, np.ndarray]:
    """Events of two jets of ten constituents each, with free places."""
    x = np.zeros((B, 30, 4))
    x[:, :20] = rng.normal([0, 0, 0, 0], [1, 0.3, 0.3, 0], (B, 20, 4))
    x[:, :20, 0] = rng.exponential(40, (B, 20)) + 1
    x[:, 10:20, 3] = 1
    return About(domain="jet", bands=("pt", "eta", "phi", "jet"), layout="particles"), x


def hits(rng: np.random.Generator) -> tuple[About, np.ndarray]:
    """Hits with 3 to 8 companions, half of them on a straight line from the origin, with free places."""
    bands = ("r", "phi", "z", "volume", "layer", "charge", "cells_u", "cells_v", "same")
    x = np.zeros((B, 12, len(bands)))
    x[..., 0] = rng.uniform(30, 1000, (B, 12))
    x[..., 1], x[..., 2] = rng.uniform(-3, 3, (B, 1)), x[..., 0] * rng.uniform(-3, 3, (B, 1))
    x[:, ::2, 1] += rng.normal(0, 0.1, (B, 6))
    x[..., 3], x[..., 4] = rng.integers(7, 19, (B, 12)), rng.integers(2, 15, (B, 12))
    x[..., 5:8] = rng.integers(1, 5, (B, 12, 3))
    x[:, 1::2, 8] = 1
    x[:, 0, 8] = 1
    for sample in range(B):
        x[sample, 4 + sample :] = 0
    return About(domain="track", bands=bands, layout="particles", survey={"sample": "hits"}), x


def tracks(rng: np.random.Generator) -> tuple[About, np.ndarray]:
    """The same as tracks, without the truth."""
    about, x = hits(rng)
    return about.model_copy(update={"bands": about.bands[:-1], "survey": {"sample": "tracks"}}), x[..., :-1]


# Domains whose objects are no pictures, with the kinds of data that they have in place of KINDS.
OWN_KINDS = {
    "event": {"records": higgs_records, "particles": particle_lists},
    "jet": {"jets": jets},
    "track": {"hits": hits, "tracks": tracks},
}
CASES = [(name, kind) for name in DOMAINS for kind in OWN_KINDS.get(name, KINDS)]


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[Domain, About, Any, torch.Tensor, dict[str, Any]]:
    """A domain with its default settings for one kind of data, a batch and its catalog."""
    name, kind = request.param
    domain, rng = DOMAINS[name], np.random.default_rng(0)
    if name in OWN_KINDS:
        about, images = OWN_KINDS[name][kind](rng)
        dtype, size = "float32", images.shape[1]
    else:
        bands, unit, dtype, size = KINDS[kind]
        about = About(domain=name, bands=bands, unit=unit)
        shape = (B, len(bands), size, size)
        images = rng.integers(0, 256, shape) if dtype == "uint8" else rng.random(shape)
    settings, notes = domain.settings(about, size, COLUMNS, dtype)
    assert isinstance(settings, domain.settings_type)
    assert all("\n" not in note for note in notes)
    read = domain.columns(settings, about.bands, COLUMNS)
    assert set(read) <= COLUMNS
    catalog = {name: torch.from_numpy(rng.uniform(0.1, 2.0, B)) for name in read}
    return domain, about, settings, torch.from_numpy(images.astype(np.float32)), catalog


def test_views_have_the_encoders_size_type_and_finite_values(case: Any) -> None:
    domain, about, settings, images, catalog = case
    kept = images.clone()
    seen = domain.view(images, catalog, Draws(0, 0, torch.arange(B), 0), settings)
    preprocess = domain.preprocess(about, settings)
    assert isinstance(preprocess, Seen)
    assert type(preprocess).model_validate_json(preprocess.model_dump_json()) == preprocess
    read_back = TypeAdapter(AnyInput).validate_json(preprocess.model_dump_json())
    assert read_back == preprocess
    shape = (len(about.bands), preprocess.size, preprocess.size) if about.layout == "images" else images.shape[1:]
    assert seen.shape == (B, *shape)
    assert seen.dtype == torch.float32
    assert torch.equal(images.nan_to_num(-1), kept.nan_to_num(-1)), "a view must not change what is stored"
    assert torch.equal(seen.isnan(), images.isnan() if about.layout != "images" else torch.zeros_like(seen).bool())
    for stored in (seen, images):
        given = encoder_input(stored, preprocess)
        if "resnet" in preprocess.encoders:
            assert given.shape == (B, preprocess.channels, preprocess.size, preprocess.size)
            assert given[0].numel() == preprocess.numbers
        else:
            assert given.ndim == seen.ndim
            assert (len(given), given.shape[-1]) == (B, preprocess.numbers)
            assert given[0].numel() == preprocess.length(tuple(seen.shape[1:]))
        assert given.isfinite().all()


def test_views_follow_from_seed_epoch_row_and_view_alone(case: Any) -> None:
    domain, _, settings, images, catalog = case
    rows = torch.tensor([40, 7, 11, 900, 3, 5])
    whole = domain.view(images, catalog, Draws(1, 2, rows, 0), settings)
    again = domain.view(images, catalog, Draws(1, 2, rows, 0), settings)
    torch.testing.assert_close(whole, again, rtol=0, atol=0, equal_nan=True)
    part = torch.tensor([4, 0, 3])
    fewer = domain.view(images[part], {k: v[part] for k, v in catalog.items()}, Draws(1, 2, rows[part], 0), settings)
    torch.testing.assert_close(fewer, whole[part], rtol=1e-5, atol=1e-4, equal_nan=True)
    for other in (Draws(1, 2, rows, 1), Draws(1, 3, rows, 0), Draws(2, 2, rows, 0), Draws(1, 2, rows + 1, 0)):
        different = (domain.view(images, catalog, other, settings) - whole).nan_to_num().abs().flatten(1).amax(1)
        assert (different > 1e-3).all()


def test_settings_are_saved_and_read_back(case: Any) -> None:
    domain, _, settings, _, _ = case
    assert domain.settings_type.model_validate_json(settings.model_dump_json()) == settings


def test_default_drawing_and_every_offered_stretch_are_known(case: Any) -> None:
    domain, about, _, images, _ = case
    stored = images[0].numpy().astype(np.uint8 if about.unit == "" and about.layout == "images" else np.float32)
    assert isinstance(domain.draw(stored, about, domain.stretches[0], 48), Image.Image)
    for stretch in domain.stretches:
        if about.layout != "images" or stretch in stretches_for(about, stored.dtype):
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
    scale = float(images.nan_to_num().max())
    torch.testing.assert_close(there.cpu() / scale, here / scale, rtol=0, atol=1e-3, equal_nan=True)


def test_domain_names_and_unknown_ones() -> None:
    assert all(name == domain.name for name, domain in DOMAINS.items())
    assert get_domain("galaxy") is DOMAINS["galaxy"]
    with pytest.raises(
        InputError, match=r"Unknown domain 'galxy'\. Did you mean 'galaxy'\? Choices: galaxy, image, jet, event, track"
    ):
        get_domain("galxy")
