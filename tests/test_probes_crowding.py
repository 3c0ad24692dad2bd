"""Which cutouts are crowded, by hand and by a slow definition."""

from __future__ import annotations

import numpy as np

from lookalike.probes.crowding import crowded, off_center


def test_light_off_the_center_by_hand() -> None:
    images = np.zeros((4, 2, 20, 20))
    images[:3, :, 9:11, 9:11] = 8.0
    images[1, :, 3:5, 9:11] = 8.0
    images[2, 0, 3:5, 9:11] = 48.0
    np.testing.assert_allclose(off_center(images), [0, 0.5, 0.75, 0])
    np.testing.assert_allclose(off_center(images + 7.0), [0, 0.5, 0.75, 0])


def test_light_off_the_center_is_its_definition() -> None:
    random = np.random.default_rng(0)
    images = random.gamma(0.3, 20, (30, 3, 15, 18)).astype(np.float32)
    expected = []
    for image in images.astype(float).mean(axis=1):
        edge = [image[y, x] for y in range(15) for x in range(18) if y in (0, 14) or x in (0, 17)]
        sky = np.median(edge)
        sigma = 1.4826 * np.median(np.abs(edge - sky))
        own = other = 0.0
        for y in range(15):
            for x in range(18):
                light = image[y, x] - sky
                if light > 3 * sigma:
                    if (y - 7) ** 2 + (x - 8.5) ** 2 <= (0.2 * 15) ** 2:
                        own += light
                    else:
                        other += light
        expected.append(other / (own + other))
    np.testing.assert_allclose(off_center(images), expected)


def test_the_third_with_the_most_light_off_center() -> None:
    shares = np.array([0.1, 0.9, 0.5, 0.9, 0.0, 0.2, 0.3, 0.0, 0.0])
    assert np.flatnonzero(crowded(shares)).tolist() == [1, 2, 3]
    assert not crowded(np.zeros(5)).any()
    assert np.flatnonzero(crowded(np.array([0.0, 0.4]))).tolist() == [1]
