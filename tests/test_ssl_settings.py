"""Training settings: the defaults a data set gives, and every refusal in one line."""

from __future__ import annotations

import pytest

from lookalike.augmentations import get_domain
from lookalike.errors import InputError
from lookalike.ssl.architectures import MlpSettings, Places
from lookalike.ssl.settings import TrainConfig, refuse_changes, resolved, trained_with


def test_open_settings_are_filled_in_by_the_data() -> None:
    config = resolved(TrainConfig(epochs=20), objects=2103, view_size=32, default_encoder="resnet18")
    assert (config.encoder, config.batch_size, config.queue, config.sub_batches) == ("resnet18", 64, 256, 2)
    assert config.momentum == pytest.approx(1 - 30 / (20 * 32))
    assert (config.temperature, config.lr) == (0.1, 0.06)
    assert not config.small_stem
    assert resolved(TrainConfig(), objects=2103, view_size=24, default_encoder="resnet18").small_stem
    assert resolved(TrainConfig(), objects=2103, view_size=24, default_encoder="resnet18").epochs == 143
    fast = resolved(TrainConfig(), objects=2103, view_size=32, default_encoder="resnet18", precision="bfloat16")
    assert (config.precision, fast.precision) == ("float32", "bfloat16")
    given = TrainConfig(
        encoder="resnet50",
        epochs=100,
        batch_size=60,
        queue=100,
        momentum=0.5,
        temperature=0.3,
        lr=1.0,
        sub_batches=4,
        small_stem=True,
        precision="float32",
        compile=True,
        orientations=8,
        untrained_half=True,
        places=Places(stage=3, grid=5),
    )
    config = resolved(given, objects=2103, view_size=96, default_encoder="resnet18", precision="bfloat16")
    assert config.model_dump() == given.model_dump()
    few = resolved(TrainConfig(), objects=50, view_size=32, default_encoder="resnet18")
    assert (few.batch_size, few.queue, few.sub_batches) == (16, 16, 2)


def test_large_sets_have_the_papers_values() -> None:
    for objects in (524_288, 10**7):
        config = resolved(TrainConfig(), objects=objects, view_size=96, default_encoder="resnet50")
        assert (config.batch_size, config.queue, config.momentum) == (256, 65_536, 0.999)
        assert (config.temperature, config.lr, config.epochs) == (0.2, 0.03, 100)


def test_the_advice_for_few_objects_can_be_followed() -> None:
    for objects, queue in ((5, 4), (7, 4), (7, 6)):
        given = TrainConfig.checked({"batch_size": 4, "queue": queue})
        assert resolved(given, objects=objects, view_size=32, default_encoder="resnet18").queue == queue


@pytest.mark.parametrize(
    ("values", "objects", "message"),
    [
        ({"encoder": "resnet20"}, 1000, "Unknown encoder 'resnet20'. Did you mean"),
        ({}, 1, "at least 2, but there is only one"),
        ({}, 7, "need at least 8 objects, so .* for 7 give --batch-size 4 and --queue, from 4 to 6"),
        ({"batch_size": 4}, 7, "need at least 8 objects, so .* for 7 give --batch-size 4 and --queue, from 4 to 6"),
        ({"batch_size": 6}, 6, "for 6 give --batch-size 4 and --queue, from 4 to 5"),
        ({"batch_size": 4}, 4, "needs at least 5 objects, a batch of 4 and one more, but there are 4"),
        ({}, 3, "needs at least 5 objects, a batch of 4 and one more, but there are 3"),
        ({"batch_size": 64}, 50, "batch_size is at most their number, 50, but 64 was given"),
        ({"batch_size": 64}, 100, "batch_size is at most 50 for 100 objects, but 64 was given"),
        ({"queue": 100}, 100, r"fewer keys than there are objects \(100\), but queue = 100"),
        ({"queue": 63, "batch_size": 64}, 100, r"at least one batch \(64\)"),
        ({"sub_batches": 40}, 1000, "at least 2 objects in each part of a batch, but sub_batches = 40"),
        ({"mlp": {"hidden": [8]}}, 1000, "are of the encoder mlp, but the encoder is resnet18"),
        ({"encoder": "mlp", "small_stem": True}, 1000, "A stem is a ResNet's"),
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
        ("mlp.hidden=[64,0]", r"Setting mlp\.hidden\.1 must be at least 1, but 0 was given"),
        ("mlp.width=3", r"Unknown setting 'width'.*Choices: hidden, dimensions"),
    ],
)
def test_wrong_assignments_are_one_line(assignment: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        TrainConfig().overridden(None, [assignment])
    assert "\n" not in caught.value.message


# Of every setting values outside its range, as typed, and the rule that the refusal states.
OUTSIDE = {
    "encoder": [("5", "must be a text")],
    "small_stem": [("maybe", "must be true or false")],
    "compile": [("maybe", "must be true or false")],
    "epochs": [("0", "must be at least 1"), ("1.5", "must be a whole number")],
    "batch_size": [("3", "must be at least 4"), ("4.5", "must be a whole number")],
    "queue": [("0", "must be at least 1")],
    "momentum": [("-0.1", "must be at least 0"), ("1", "must be below 1")],
    "temperature": [("0", "must be above 0"), ("NaN", "must be a finite number")],
    "lr": [("0", "must be above 0"), ("Infinity", "must be a finite number")],
    "weight_decay": [("-1e-9", "must be at least 0")],
    "sgd_momentum": [("-0.1", "must be at least 0"), ("1", "must be below 1")],
    "seed": [("-1", "must be at least 0"), (str(2**31), "must be below 2147483648")],
    "precision": [("float64", "must be 'float32', 'bfloat16' or 'float16'")],
    "sub_batches": [("0", "must be at least 1")],
    "projection": [("1", "must be at least 2"), ("4097", "must be at most 4096")],
    "orientations": [("4", "must be 1 or 8"), ("0", "must be 1 or 8")],
    "untrained_half": [("half", "must be true or false")],
    "places": [("3", "must hold named values")],
    "mlp": [("3", "must hold named values")],
    "set": [("3", "must hold named values")],
    "augment": [("3", "must hold named values")],
}


def test_every_setting_has_a_range() -> None:
    assert OUTSIDE.keys() == TrainConfig.model_fields.keys()
    for name, cases in OUTSIDE.items():
        for value, rule in cases:
            with pytest.raises(InputError) as caught:
                TrainConfig().overridden(None, [f"{name}={value}"])
            assert caught.value.message.startswith(f"Setting {name} {rule}, but ")


def test_on_resume_only_epochs_may_grow() -> None:
    stored = resolved(TrainConfig(epochs=10), objects=1000, view_size=32, default_encoder="resnet18").model_dump()
    refuse_changes(stored, TrainConfig(epochs=10))
    refuse_changes(stored, TrainConfig(epochs=11, queue=64))
    refuse_changes(stored, TrainConfig())  # as many as before
    with pytest.raises(InputError, match="may only grow: it was 10, now 9"):
        refuse_changes(stored, TrainConfig(epochs=9))
    for name, value in {"seed": 1, "lr": 0.1, "queue": 128, "momentum": 0.5, "augment": {"a": 1}}.items():
        with pytest.raises(InputError, match=f"only the number of epochs may change, but {name} was"):
            refuse_changes(stored, TrainConfig.checked({"epochs": 10, name: value}))
    del stored["mlp"], stored["orientations"], stored["untrained_half"], stored["places"]  # as before there were any
    refuse_changes(stored, TrainConfig())
    assert trained_with(stored).orientations == 1
    assert trained_with(stored).untrained_half is False
    with pytest.raises(InputError, match="may change, but orientations was 1 and is now 8"):
        refuse_changes(stored, TrainConfig(orientations=8))


def test_small_sets_of_what_has_no_up_or_down_are_seen_from_eight_sides() -> None:
    def found(config: TrainConfig, **data: object) -> int:
        given = {"objects": 1000, "view_size": 32, "default_encoder": "resnet18", "turns": True, **data}
        return resolved(config, **given).orientations  # type: ignore[arg-type]

    assert found(TrainConfig()) == found(TrainConfig(), objects=50_000) == 8
    assert found(TrainConfig(), objects=50_001) == found(TrainConfig(), turns=False) == 1
    assert found(TrainConfig(orientations=1)) == 1
    assert found(TrainConfig(orientations=8), turns=False, objects=10**6) == 8
    galaxy, image = get_domain("galaxy"), get_domain("image")
    usual = galaxy.settings_type()
    assert galaxy.turns(usual)
    for change in ({"enabled": False}, {"rotate": False}, {"flip_probability": 0}):
        assert not galaxy.turns(usual.changed({"orientation": change}))
    assert not image.turns(image.settings_type(bands=("v",), size=28))


def test_an_mlp_has_widths_and_no_stem() -> None:
    size = {"objects": 1000, "view_size": 28, "default_encoder": "resnet18"}
    config = resolved(TrainConfig(encoder="mlp"), **size)  # type: ignore[arg-type]
    assert config.mlp == MlpSettings(hidden=(512, 512, 512), dimensions=256)
    assert config.small_stem is False
    given = TrainConfig(encoder="mlp").overridden(None, ["mlp.hidden=[64,32]"])
    assert resolved(given, **size).mlp == MlpSettings(hidden=(64, 32), dimensions=256)  # type: ignore[arg-type]
    stored = resolved(given, **size).model_dump(mode="json")  # type: ignore[arg-type]
    refuse_changes(stored, TrainConfig(encoder="mlp"))
    with pytest.raises(InputError, match="may change, but mlp was"):
        refuse_changes(stored, TrainConfig(mlp=MlpSettings()))


def test_a_step_named_without_augment_is_told_where_it_belongs() -> None:
    with pytest.raises(InputError, match=r"Unknown setting 'blur'.* begin with augment: augment\.blur\."):
        TrainConfig().overridden(assignments=["blur.enabled=true"])
