"""Records and lists of particles as an encoder is given them: each number on its scale, what is undefined said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from lookalike.augmentations import numbers as module
from lookalike.augmentations.inputs import encoder_input
from lookalike.augmentations.numbers import Numbers, fitted
from lookalike.errors import InputError
from lookalike.samples import About, Samples
from lookalike.samples_writer import write_samples

NAMES = ("pt", "eta", "phi", "kind", "key")
SCALES = ("log", "linear", "angle", "one of 3", "unseen")


def numbers(kind: str, **values: object) -> Numbers:
    return Numbers.checked({"kind": kind, "size": 5, "bands": NAMES, "dtype": "float32", "scales": SCALES, **values})


def one(number: float, scale: str) -> list[float]:
    """The values of a defined number, by the definition of its scale."""
    if scale == "log":
        return [math.log(1 + number)]
    if scale == "asinh":
        return [math.log(number + math.sqrt(number**2 + 1))]
    if scale == "angle":
        return [math.sin(number), math.cos(number)]
    if scale.startswith("one of"):
        return [float(number == choice) for choice in range(int(scale.split()[-1]))]
    return [] if scale == "unseen" else [number]


def values_of(row: Sequence[float], scales: Sequence[str], mean: Sequence[float], std: Sequence[float]) -> list[float]:
    found = [value for number, scale in zip(row, scales, strict=True) for value in one(number, scale)]
    return [(value - m) / s for value, m, s in zip(found, mean, std, strict=True)]


def drawn(n: int) -> np.ndarray:
    random = np.random.default_rng(n)
    columns = [random.exponential(50, n), random.normal(0, 2, n), random.uniform(-3, 3, n)]
    return np.stack([*columns, random.integers(0, 3, n), random.uniform(0, 1e6, n)], axis=1).astype(np.float32)


def test_a_record_is_given_value_by_value_with_what_is_undefined_flagged() -> None:
    mean, std = (3.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0), (0.5, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    seen, rows = numbers("record", mean=mean, std=std), drawn(20)
    found = encoder_input(torch.from_numpy(rows), seen)
    assert found.shape == (20, seen.numbers) == (20, 7 + 4)
    for row, given in zip(rows.tolist(), found, strict=True):
        wanted = [*values_of(row, SCALES, mean, std), 1, 1, 1, 1]
        torch.testing.assert_close(given, torch.tensor(wanted), rtol=1e-5, atol=1e-5)
    rows[3, 1] = rows[4, 2] = rows[5, 3] = rows[6, 4] = np.nan
    again = encoder_input(torch.from_numpy(rows), seen)
    gone = {3: ([1], 8), 4: ([2, 3], 9), 5: ([4, 5, 6], 10), 6: ([], None)}  # zeros, and the flag that is down
    for row, (places, flag) in gone.items():
        wanted = found[row].clone()
        wanted[places] = 0
        if flag is not None:
            wanted[flag] = 0
        torch.testing.assert_close(again[row], wanted)


def test_particles_are_given_with_a_flag_and_nothing_after_the_last() -> None:
    seen, particles = numbers("particles", mean=(1.0,) * 7, std=(2.0,) * 7), np.zeros((6, 4, 5), np.float32)
    counts = [0, 1, 2, 4, 3, 4]
    for event, count in enumerate(counts):
        particles[event, :count] = drawn(10)[event : event + count]
    found = encoder_input(torch.from_numpy(particles), seen)
    assert found.shape == (6, 4, seen.numbers) == (6, 4, 8)
    for event, count in enumerate(counts):
        assert not found[event, count:].any()
        for place in range(count):
            wanted = [*values_of(particles[event, place].tolist(), SCALES, (1,) * 7, (2,) * 7), 1]
            torch.testing.assert_close(found[event, place], torch.tensor(wanted, dtype=torch.float32))


@pytest.mark.parametrize("kind", ["record", "particles"])
def test_mean_and_spread_are_those_of_what_is_defined(tmp_path: Path, kind: str) -> None:
    rows = drawn(600)
    if kind == "record":
        rows[::7, 0] = np.nan
        stored, defined = rows, rows
    else:
        stored = rows.reshape(200, 3, 5).copy()
        stored[::2, 2] = 0
        defined = stored.reshape(-1, 5)[stored.reshape(-1, 5)[:, 0] > 0]
    about = About(domain="event", bands=NAMES, layout="features" if kind == "record" else "particles")
    with write_samples(tmp_path / "s.h5", about, {}) as writer:
        writer.append([f"e{row}" for row in range(len(stored))], stored, {})
    seen = fitted(Samples(tmp_path / "s.h5"), numbers(kind))
    assert isinstance(seen, Numbers)
    logs = np.log1p(defined[:, 0][np.isfinite(defined[:, 0])].astype(np.float64))
    np.testing.assert_allclose(seen.mean, [logs.mean(), defined[:, 1].mean(), 0, 0, 0, 0, 0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(seen.std, [logs.std(), defined[:, 1].std(), 1, 1, 1, 1, 1], rtol=1e-4)
    given = encoder_input(torch.from_numpy(stored), seen)
    own = given[:, :2] if kind == "record" else given[given[..., -1] > 0][:, :2]
    torch.testing.assert_close(own.mean(dim=0), torch.zeros(2), atol=1e-3, rtol=0)


def test_long_lists_are_fitted_to_fewer_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held at once does not grow with the places of an event."""
    rows = drawn(600).reshape(200, 3, 5)
    about = About(domain="event", bands=NAMES, layout="particles")
    with write_samples(tmp_path / "s.h5", about, {}) as writer:
        writer.append([f"e{row}" for row in range(200)], rows, {})
    assert len(module.some_of(Samples(tmp_path / "s.h5"))) == 200
    monkeypatch.setattr(module, "PARTICLES_FITTED", 60)
    some = module.some_of(Samples(tmp_path / "s.h5"))
    assert some.shape == (20, 3, 5)
    assert torch.equal(some[[0, -1]], torch.from_numpy(rows[[0, -1]]).double())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scales": ("log",) * 4}, "scales is one per number, but 4 for 5"),
        ({"mean": (1.0,)}, "mean and std have one number for each of 7 values"),
        ({"scales": ("cube",) * 5}, "scales"),
    ],
)
def test_scales_that_do_not_fit_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        numbers("record", **values)


def test_objects_of_another_kind_are_refused() -> None:
    for kind, shape in (("record", (4,)), ("record", (3, 5)), ("particles", (5,)), ("particles", (3, 4))):
        with pytest.raises(InputError, match=r"with F = 5 \(pt, eta, phi, kind, key\), but"):
            numbers(kind).check(shape, np.dtype(np.float32))
    with pytest.raises(InputError, match="trained on float32 numbers, but uint8"):
        numbers("record").check((5,), np.dtype(np.uint8))
    numbers("record").check((5,), np.dtype(np.float32))
    numbers("particles").check((9, 5), np.dtype(np.float32))
