"""Simulated clocks: their labels are what their hands show, whatever block they are made in."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.errors import InputError, LookalikeError
from lookalike.samples import Samples
from lookalike.simulate import write
from lookalike.simulate.clock_faces import HANDS, MARKS, NUMERALS, Style, dial_layers
from lookalike.simulate.clock_numerals import CELL, PEN, atlas
from lookalike.simulate.clocks import Clocks
from lookalike.simulate.draws import Draws


def test_labels_agree_and_every_time_and_style_occurs() -> None:
    clocks = Clocks(0)
    _, _, catalog = clocks.block(np.arange(200))
    minutes = (catalog["hour"] % 12) * 60 + catalog["minute"]
    np.testing.assert_allclose(catalog["angle"], minutes / 2)
    assert set(catalog["hour"].tolist()) == set(range(1, 13))
    assert (catalog["minute"] >= 0).all()
    assert (catalog["minute"] < 60).all()
    assert len(set(catalog["minute"].tolist())) > 50
    for name, kinds in (("numerals", NUMERALS), ("marks", MARKS), ("hands", HANDS)):
        assert set(catalog[name].tolist()) == set(kinds)
    assert (np.abs(catalog["turn"]) < 25).all()
    assert not ((catalog["numerals"] == "none") & (catalog["marks"] == "none")).any()


def test_an_object_follows_from_seed_and_row_alone() -> None:
    ids, images, catalog = Clocks(3).block(np.arange(5, 9))
    for place, row in enumerate(range(5, 9)):
        alone_ids, alone, alone_catalog = Clocks(3).block(np.array([row]))
        assert alone_ids[0] == ids[place]
        assert (alone[0] == images[place]).all()
        assert all(np.all(alone_catalog[name][0] == values[place]) for name, values in catalog.items())
    assert (Clocks(4).block(np.arange(5, 9))[1] != images).any(axis=(1, 2, 3)).all()


def test_pictures_are_varied_and_no_two_alike() -> None:
    _, images, _ = Clocks(1).block(np.arange(64))
    assert images.shape == (64, 1, 150, 150)
    assert images.dtype == np.uint8
    assert (images.std(axis=(1, 2, 3)) > 10).all()
    means = images.mean(axis=(1, 2, 3))
    assert means.min() < 90
    assert means.max() > 170


@pytest.mark.parametrize("minutes", [0, 95, 217, 450, 719])
def test_hands_point_where_the_label_says(minutes: int) -> None:
    """Alone on a plain dial, the covered pixels far out lie at the minute hand's angle, those near at both."""
    style = Style.drawn(Draws(0, np.arange(1)))
    grid = np.linspace(-1, 1, 401, dtype=np.float32)
    x, y = np.broadcast_arrays(grid[None, None, :], -grid[None, :, None])
    hour, minute = 2 * np.pi * minutes / 720, 2 * np.pi * (minutes % 60) / 60
    pixel = np.full((1, 1, 1), 0.005, np.float32)
    layers = list(dial_layers(style, x, y, pixel, np.array([hour], np.float32), np.array([minute], np.float32)))
    # From the back: rim, face, ring, marks, numerals, then shadow and hand twice, the third hand, the pin.
    for (cover, _), angle, (length, _, _) in ((layers[6], hour, style.hour[0]), (layers[8], minute, style.minute[0])):
        far = (cover[0] > 0.5) & (np.hypot(x[0], y[0]) > 0.6 * length)
        assert far.any()
        shown = np.arctan2(x[0][far].mean(), y[0][far].mean())
        assert abs(np.angle(np.exp(1j * (shown - angle)))) < 0.01


def test_numerals_are_told_apart() -> None:
    maps = atlas()
    assert maps.shape == (3, 12, CELL, CELL)
    ink = maps < 0
    assert (ink.mean(axis=(2, 3)) > 0.01).all()
    border = np.concatenate([maps[:, :, 0], maps[:, :, -1], maps[:, :, :, 0], maps[:, :, :, -1]], axis=-1)
    assert border.min() > -PEN  # a numeral lies within its cell
    for kind in (0, 1):
        for first in range(12):
            for second in range(first):
                assert (ink[kind, first] ^ ink[kind, second]).mean() > 0.005


def test_the_file_is_marked_as_simulated_and_longer_sets_begin_alike(tmp_path: Path) -> None:
    write(Clocks(2), tmp_path / "a.h5", 40, quiet=True)
    short, long = Samples(tmp_path / "a.h5"), tmp_path / "b.h5"
    write(Clocks(2), long, 70, quiet=True)
    assert (Samples(long).objects(slice(0, 40)) == short.objects(slice(0, 40))).all()
    assert short.about.source.startswith("SIMULATED")
    assert short.about.domain == "image"
    assert short.id(0) == "sim2-0000000"
    before = short.content_hash
    assert write(Clocks(2), tmp_path / "a.h5", 40, quiet=True).content_hash == before
    with pytest.raises(InputError, match="--overwrite"):
        write(Clocks(2), tmp_path / "a.h5", 41, quiet=True)
    with pytest.raises(InputError, match="At least 1 object"):
        write(Clocks(2), tmp_path / "c.h5", 0, quiet=True)
    with pytest.raises(InputError, match="turned by up to"):
        Clocks(0, 181)


def test_smaller_clocks_are_the_same_ones_resized() -> None:
    rows = np.arange(3)
    large, small = Clocks(5).block(rows), Clocks(5, size=64).block(rows)
    assert small[1].shape == (3, 1, 64, 64)
    assert (small[2]["minute"] == large[2]["minute"]).all()
    means = [images.mean(axis=(1, 2, 3)) for images in (large[1], small[1])]
    np.testing.assert_allclose(*means, atol=1)
    with pytest.raises(InputError, match="28 to 150 px wide, but 12"):
        Clocks(5, size=12)


class Killed(Clocks):
    """Clocks whose making ends the process, as the system does where memory runs out."""

    def block(self, rows: np.ndarray[Any, Any]) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(LookalikeError, match=r"ended from outside.* Fewer --processes take less memory"):
        write(Killed(0), tmp_path / "clocks.h5", 100, processes=2, quiet=True)
    assert not (tmp_path / "clocks.h5").exists()


def test_more_than_rows_can_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="At most 9,223,372,036,854,775,807 clocks are made of one seed"):
        write(Clocks(0), tmp_path / "clocks.h5", 2**63, quiet=True)
    assert list(tmp_path.iterdir()) == []
