"""The open settings by the number of objects: slow definitions, no jumps, and no impossible value."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.augmentations.event import EVENT
from lookalike.augmentations.jet import JET
from lookalike.errors import InputError
from lookalike.ssl import defaults
from lookalike.ssl.defaults import (
    LARGE,
    SMALL,
    between,
    default_batch,
    default_epochs,
    default_lr,
    default_momentum,
    default_queue,
    default_temperature,
)
from lookalike.ssl.settings import TrainConfig, resolved


@pytest.mark.parametrize(
    ("objects", "batch", "queue"),
    [
        (1000, 64, 64),  # fewer than an eighth would be less than a batch
        (128, 64, 64),
        (2103, 64, 256),
        (5000, 64, 576),
        (524_288, 64, 65_536),
        (10**7, 100, 65_500),
        (10**7, 64, 65_536),
        (9, 4, 4),
    ],
)
def test_default_queue_is_the_largest_multiple_of_the_batch(objects: int, batch: int, queue: int) -> None:
    assert default_queue(objects, batch) == queue
    fits = [k for k in range(batch, min(objects // 8, 65_536) + 1) if k % batch == 0]
    assert queue == max(fits, default=batch)


@pytest.mark.parametrize(("steps", "m"), [(1, 0.9), (300, 0.9), (1600, 0.98125), (5000, 0.994), (10**6, 0.999)])
def test_default_momentum_follows_the_number_of_steps(steps: int, m: float) -> None:
    assert default_momentum(steps) == pytest.approx(m)


@pytest.mark.parametrize(
    ("objects", "batch", "temperature", "lr", "epochs"),
    [
        (8, 4, 0.1, 0.06, 1000),
        (100, 32, 0.1, 0.06, 1000),
        (1000, 64, 0.1, 0.06, 300),
        (5000, 64, 0.1, 0.06, 60),
        (20_000, 64, 0.1, 0.06, 20),
        (SMALL, 64, 0.1, 0.06, 20),
        (200_000, 128, 0.15, 0.0399, 52),
        (LARGE, 256, 0.2, 0.03, 100),
        (10**8, 256, 0.2, 0.03, 100),
    ],
)
def test_defaults_by_size(objects: int, batch: int, temperature: float, lr: float, epochs: int) -> None:
    assert default_batch(objects) == batch
    assert default_temperature(objects) == pytest.approx(temperature, rel=0.01)
    assert default_lr(objects) == pytest.approx(lr, rel=0.01)
    assert default_epochs(objects) == epochs


@given(st.integers(SMALL, LARGE))
def test_between_goes_evenly_in_the_logarithm(objects: int) -> None:
    share = math.log(objects / SMALL) / math.log(LARGE / SMALL)
    assert between((2.0, 32.0), objects) == pytest.approx(2.0 * 16**share, rel=0.006)  # three digits


@given(st.integers(8, 10**9))
def test_every_size_gives_settings_that_work(objects: int) -> None:
    config = resolved(TrainConfig(), objects=objects, view_size=64, default_encoder="resnet18")
    assert 4 <= config.batch_size <= config.queue <= max(config.batch_size, objects // 8)
    assert config.batch_size <= objects / 2
    assert config.queue % config.batch_size == 0
    assert 0.9 <= config.momentum <= 0.999


@given(st.integers(8, 10**6))
def test_more_objects_never_mean_smaller_batches_queues_or_temperatures(objects: int) -> None:
    before, after = (
        resolved(TrainConfig(), objects=n, view_size=64, default_encoder="resnet18") for n in (objects, objects + 1)
    )
    assert after.batch_size >= before.batch_size
    assert after.temperature >= before.temperature
    assert after.lr <= before.lr
    assert after.queue >= before.queue - before.batch_size  # a larger batch divides another number


def test_a_small_set_trains_within_its_time() -> None:
    """5,000 cutouts at 129 samples/s, the loop's rate at 96 px on two cores, take less than 45 minutes."""
    assert 5000 * default_epochs(5000) / 129 < 45 * 60
    for objects in (300, 1000, 2103, 5000, 15_000):
        assert objects * default_epochs(objects) == pytest.approx(defaults.VIEWED, rel=0.03)


@pytest.mark.parametrize(("objects", "epochs"), [(50, 1000), (1000, 60), (5000, 12), (250_000, 5), (800_000, 5)])
def test_events_are_learned_in_fewer_and_larger_steps(objects: int, epochs: int) -> None:
    for kind in ("mlp", "set"):
        config = resolved(
            TrainConfig(), objects=objects, view_size=17, default_encoder="mlp", kinds=(kind,), pace=EVENT.pace
        )
        assert (config.encoder, config.epochs, config.lr) == (kind, epochs, 0.24)
    small_pictures = resolved(TrainConfig(), objects=objects, view_size=17, default_encoder="mlp")
    assert small_pictures.lr < 0.24


@pytest.mark.parametrize(("objects", "epochs"), [(1000, 60), (5000, 12), (250_000, 5)])
def test_jets_are_learned_in_fewer_steps(objects: int, epochs: int) -> None:
    pictures = resolved(TrainConfig(), objects=objects, view_size=75, default_encoder="resnet10")
    jets = resolved(TrainConfig(), objects=objects, view_size=75, default_encoder="resnet10", pace=JET.pace)
    assert (jets.epochs, jets.lr) == (epochs, pictures.lr)
    assert jets.epochs < pictures.epochs


def test_too_few_objects_for_any_batch() -> None:
    with pytest.raises(InputError, match="so that a batch of 4 is half of them; for 7 give"):
        default_batch(7)
