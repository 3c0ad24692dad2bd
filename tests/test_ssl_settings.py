"""Training settings: the defaults a data set gives, and every refusal in one line."""

from __future__ import annotations

import pytest

from lookalike.errors import InputError
from lookalike.ssl.settings import TrainConfig, default_momentum, default_queue, refuse_changes, resolved


@pytest.mark.parametrize(
    ("objects", "batch", "queue"),
    [(1000, 64, 448), (128, 64, 64), (131_072, 64, 65_536), (10**7, 100, 65_500), (10**7, 64, 65_536), (9, 4, 4)],
)
def test_default_queue_is_the_largest_multiple_of_the_batch(objects: int, batch: int, queue: int) -> None:
    assert default_queue(objects, batch) == queue
    fits = [k for k in range(batch, min(objects // 2, 65_536) + 1) if k % batch == 0]
    assert queue == max(fits)


@pytest.mark.parametrize(("steps", "m"), [(1, 0.9), (100, 0.9), (1000, 0.99), (5000, 0.998), (10**6, 0.999)])
def test_default_momentum_follows_the_number_of_steps(steps: int, m: float) -> None:
    assert default_momentum(steps) == pytest.approx(m)


def test_open_settings_are_filled_in_by_the_data() -> None:
    config = resolved(TrainConfig(epochs=20), objects=2103, view_size=32, default_encoder="resnet18")
    assert (config.encoder, config.queue, config.sub_batches) == ("resnet18", 1024, 2)
    assert config.momentum == pytest.approx(1 - 10 / (20 * 32))
    assert not config.small_stem
    assert resolved(TrainConfig(), objects=2103, view_size=24, default_encoder="resnet18").small_stem
    assert resolved(TrainConfig(), objects=2103, view_size=24, default_encoder="resnet18").epochs == 100
    fast = resolved(TrainConfig(), objects=2103, view_size=32, default_encoder="resnet18", precision="bfloat16")
    assert (config.precision, fast.precision) == ("float32", "bfloat16")
    given = TrainConfig(
        encoder="resnet50",
        epochs=100,
        queue=100,
        momentum=0.5,
        sub_batches=4,
        small_stem=True,
        precision="float32",
    )
    config = resolved(given, objects=2103, view_size=96, default_encoder="resnet18", precision="bfloat16")
    assert config == given


@pytest.mark.parametrize(
    ("values", "objects", "message"),
    [
        ({"encoder": "resnet20"}, 1000, "Unknown encoder 'resnet20'. Did you mean"),
        ({}, 1, "at least 2, but there is only one"),
        ({}, 50, "batch_size is at most their number, 50, but 64 was given"),
        ({}, 100, "batch_size is at most 50 for 100 objects, but 64 was given"),
        ({"queue": 100}, 100, r"fewer keys than there are objects \(100\), but queue = 100"),
        ({"queue": 63}, 100, r"at least one batch \(64\)"),
        ({"sub_batches": 40}, 1000, "at least 2 objects in each part of a batch, but sub_batches = 40"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, object], objects: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolved(TrainConfig.checked(values), objects=objects, view_size=32, default_encoder="resnet18")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epoch=3", r"Unknown setting 'epoch'. Did you mean 'epochs'\? Choices: encoder, small_stem, epochs"),
        ("epochs=0", "Setting epochs must be at least 1, but 0 was given"),
        ("temperature=-1", "Setting temperature must be above 0, but -1 was given"),
        ("momentum=1", "Setting momentum must be below 1, but 1 was given"),
        ("lr=fast", "Setting lr must be a number, but 'fast' was given"),
        ("batch_size=3", "Setting batch_size.*but 3 was given"),
        ("seed=-1", "Setting seed must be at least 0, but -1 was given"),
    ],
)
def test_wrong_assignments_are_one_line(assignment: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        TrainConfig().overridden(None, [assignment])
    assert "\n" not in caught.value.message


def test_on_resume_only_epochs_may_grow() -> None:
    stored = resolved(TrainConfig(epochs=10), objects=1000, view_size=32, default_encoder="resnet18").model_dump()
    refuse_changes(stored, TrainConfig(epochs=10))
    refuse_changes(stored, TrainConfig(epochs=11, queue=448))
    refuse_changes(stored, TrainConfig())  # as many as before
    with pytest.raises(InputError, match="may only grow: it was 10, now 9"):
        refuse_changes(stored, TrainConfig(epochs=9))
    for name, value in {"seed": 1, "lr": 0.1, "queue": 64, "momentum": 0.5, "augment": {"a": 1}}.items():
        with pytest.raises(InputError, match=f"only the number of epochs may change, but {name} was"):
            refuse_changes(stored, TrainConfig.checked({"epochs": 10, name: value}))
