"""From the names and shapes of foreign weights to the state of one of our encoders, leaving nothing to guessing.

Understood: a torchvision ResNet under any prefix (`module.encoder_q.` of MoCo's authors, `encoder_q.` and
`backbone.` of Lightning modules, none), or the same network as a numbered Sequential of its children. Its head is
MoCo v2's (`fc.0`, ReLU, `fc.2`), MoCo v1's (`fc` of an `encoder_q`), lightly's (`projection_head.layers.0` and `.2`
beside the backbone, or `projection_head_momentum` beside a `backbone_momentum`), or there is none. What holds anything
more is another head, and so none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lookalike.errors import InputError
from lookalike.ssl.architectures import RESNETS, EncoderConfig
from lookalike.ssl.encoders import Encoder, parameter_shapes

PREFERRED = ("encoder_q", "backbone")  # of several networks in one file, which is the encoder
CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
NETWORK = re.compile(r"(conv1|bn1|layer\d+)\.")  # what decides the embedding; the rest of a ResNet is its fc
HEAD = ("head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias")
COUNTER = "num_batches_tracked"  # a count that torch did not keep before 0.4.1, and that embedding does not use
MAX_CHANNELS, MAX_PROJECTION = 1024, 4096
DTYPES = (torch.float32, torch.float16, torch.float64)


@dataclass(frozen=True)
class Recognized:
    """An encoder found in a file.

    state   : every tensor of our Encoder, by our names.
    head    : "moco-v2", "moco-v1", "lightly", or "none", in which case the head's tensors are untrained.
    unused  : keys of the file that went nowhere.
    missing : our names that the file has nothing for, and that embedding does not need.
    """

    config: EncoderConfig
    prefix: str
    head: str
    state: dict[str, Tensor]
    unused: list[str]
    missing: list[str]


def recognize(
    tensors: Mapping[str, Tensor],
    prefix: str | None = None,
    projection: int = 128,
    unread: Mapping[str, str] | None = None,
) -> Recognized:
    """The encoder within the tensors of a file; InputError where there is none, several, or not all of it.

    prefix     : what its keys begin with, needed only where several networks could be meant.
    projection : length of the projection where the file has no head.
    unread     : {key: what it is} of what the file holds besides; the encoder must need none of it.
    """
    unread = unread or {}
    keys = {*tensors, *unread}
    prefix = _find_prefix(keys, prefix)
    names = _plain_names(keys, prefix)
    for key, name in names.items():
        if key in unread and NETWORK.match(name):
            raise InputError(f"The whole of an encoder is needed, but {key!r} is of a kind not read ({unread[key]}).")
    network = {name: tensors[key] for key, name in names.items() if key in tensors and NETWORK.match(name)}
    bare = _identify(network, projection)
    dimensions = parameter_shapes(bare)["head.0.weight"][0]  # D
    head, layers, head_keys = _find_head(tensors, keys, prefix, dimensions)
    config = bare.model_copy(update={"projection": len(layers["head.2.weight"])}) if layers else bare
    state = _untrained(config)
    places = {key: f"backbone.{name}" for key, name in names.items() if f"backbone.{name}" in state}
    given = {name: tensors[key] for key, name in places.items()} | layers
    for name, tensor in given.items():
        state[name] = _checked(name, tensor).to(state[name].dtype).contiguous().clone()
    used = {*places, *head_keys}
    return Recognized(
        config, prefix, head, state, sorted(set(tensors) - used), sorted(name for name in state if name not in given)
    )


def _find_prefix(keys: Collection[str], wanted: str | None) -> str:
    """What, of all keys of a file, the encoder's begin with."""
    found: list[str] = []
    for first, block in (("conv1.weight", "layer1.0.conv1.weight"), ("0.weight", "4.0.conv1.weight")):
        stems = [key.removesuffix(first) for key in keys if key.endswith(f".{first}") or key == first]
        found += [stem for stem in stems if stem + block in keys and stem not in found]
    listed = ", ".join(repr(stem) for stem in sorted(found))
    if wanted is not None:
        stem = wanted if wanted.endswith(".") or not wanted else f"{wanted}."
        if stem not in found:
            raise InputError(f"No ResNet lies under the prefix {wanted!r} of this file. Choices: {listed or '(none)'}.")
        return stem
    if not found:
        some = ", ".join(sorted(keys)[:3])
        raise InputError(
            "A ResNet with torchvision's names is read (conv1.weight, layer1.0.conv1.weight, …, under any prefix), but "
            f"this file has none among its {len(keys):,} weights{f' ({some}, …)' if some else ''}."
        )
    for name in PREFERRED:
        fitting = [stem for stem in found if len(found) == 1 or f".{stem}".endswith(f".{name}.")]
        if len(fitting) == 1:
            return fitting[0]
    raise InputError(
        f"This file holds {len(found)} networks; choose one by `checkpoint import` with --prefix. Choices: {listed}."
    )


def _plain_names(keys: Collection[str], prefix: str) -> dict[str, str]:
    """torchvision's name for each key under the prefix; InputError where two are for one weight."""
    names, taken = {}, dict[str, str]()
    for key in sorted(key for key in keys if key.startswith(prefix)):
        names[key] = _plain_name(key.removeprefix(prefix))
        if (other := taken.setdefault(names[key], key)) != key:
            raise InputError(
                f"Each weight has one name, but this file holds {other!r} and {key!r}, which are the same."
            )
    return names


def _plain_name(name: str) -> str:
    """torchvision's name of what a numbered Sequential of the same children calls by number."""
    first, dot, rest = name.partition(".")
    return f"{CHILDREN[first]}{dot}{rest}" if first in CHILDREN else name


def _identify(network: Mapping[str, Tensor], projection: int) -> EncoderConfig:
    """Which encoder has exactly these weights, from names and shapes; InputError where none or not all of it."""
    stem = network["conv1.weight"].shape if "conv1.weight" in network else ()
    if len(stem) != 4 or stem[2:] not in ((7, 7), (3, 3)) or not 1 <= stem[1] <= MAX_CHANNELS:
        raise InputError(
            f"A stem is 7×7 with stride 2 or 3×3 with stride 1, of 1 to {MAX_CHANNELS:,} bands, but conv1.weight is "
            f"{_shape(stem)}."
        )
    found = {name: tuple(tensor.shape) for name, tensor in network.items() if not name.endswith(COUNTER)}
    best: tuple[int, str, list[str], list[str]] | None = None
    for name in RESNETS:
        config = EncoderConfig(name=name, channels=stem[1], small_stem=stem[2] == 3, projection=projection)
        shapes = {
            key.removeprefix("backbone."): shape
            for key, shape in parameter_shapes(config).items()
            if key.startswith("backbone.") and not key.endswith(COUNTER)
        }
        if shapes == found:
            return config
        lacking = sorted(key for key in shapes if key not in found)
        odd = sorted(key for key in found if found[key] != shapes.get(key))
        if best is None or len(lacking) + len(odd) < best[0]:
            best = (len(lacking) + len(odd), name, lacking, odd)
    assert best is not None
    raise _unlike(best, found)


def _unlike(best: tuple[int, str, list[str], list[str]], found: dict[str, tuple[int, ...]]) -> InputError:
    """What keeps a network from being the encoder it is most like."""
    _, name, lacking, odd = best
    if lacking and not odd:
        what = f"{len(lacking)} of its weights are missing, first {lacking[0]!r}"
    else:
        other = f"{odd[0]!r} of shape {_shape(found[odd[0]])}"
        what = f"{len(odd)} weights are not of it, first {other}, and {len(lacking)} are missing"
    return InputError(f"The whole of an encoder is needed ({', '.join(RESNETS)}): nearest is {name}, but {what}.")


def _find_head(
    tensors: Mapping[str, Tensor], keys: Collection[str], prefix: str, dimensions: int
) -> tuple[str, dict[str, Tensor], list[str]]:
    """The kind of head, its tensors by our names (none where it is not ours to represent), and their keys."""
    for kind, stem, inside in (("moco-v2", f"{prefix}fc.", ""), ("lightly", _head_beside(prefix), "layers.")):
        own = [f"{stem}{inside}{name}" for name in ("0.weight", "0.bias", "2.weight", "2.bias")]
        # Anything more, such as a third layer or a batch norm, is part of what the head computes.
        if {key for key in keys if key.startswith(stem)} == set(own) <= set(tensors):
            shapes = [tuple(tensors[key].shape) for key in own]
            length = shapes[2][0] if shapes[2] else 0
            whole = [(dimensions, dimensions), (dimensions,), (length, dimensions), (length,)]
            if shapes == whole and 1 <= length <= MAX_PROJECTION:
                return kind, {name: tensors[key] for name, key in zip(HEAD, own, strict=True)}, own
    own = [f"{prefix}fc.weight", f"{prefix}fc.bias"]
    beside = {key for key in keys if key.startswith(f"{prefix}fc.")} - set(own)
    if prefix.endswith("encoder_q.") and not beside and set(own) <= set(tensors):
        weight, bias = (tensors[key] for key in own)
        length = len(bias) if bias.ndim == 1 else 0
        if tuple(weight.shape) == (length, dimensions) and 1 <= length <= MAX_PROJECTION:
            # Pooled features are at least 0, so that ReLU(1·x) = x, and our head becomes v1's single layer.
            one = torch.eye(dimensions), torch.zeros(dimensions)
            return "moco-v1", dict(zip(HEAD, (*one, weight, bias), strict=True)), own
    return "none", {}, []


def _head_beside(prefix: str) -> str:
    """What the keys of lightly's head begin with: of the momentum encoder, that of its own."""
    parent, dot, stem = prefix.rstrip(".").rpartition(".")
    if "backbone" in stem:  # backbone, backbone_momentum, momentum_backbone, teacher_backbone
        return f"{parent}{dot}{stem.replace('backbone', 'projection_head')}."
    return f"{parent}{dot}projection_head{'_momentum' * stem.endswith('_momentum')}."


def _untrained(config: EncoderConfig) -> dict[str, Tensor]:
    """The state of a new encoder, the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return dict(Encoder(config).state_dict())


def _checked(name: str, tensor: Tensor) -> Tensor:
    """The tensor, if weights can have its type and numbers."""
    if name.endswith(COUNTER):
        if tensor.dtype != torch.int64 or tensor.ndim:
            raise InputError(f"A {COUNTER} is one whole number, but {name!r} is {tensor.dtype} {_shape(tensor.shape)}.")
        return tensor
    if tensor.dtype not in DTYPES:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise InputError(f"Weights are floating-point numbers, but {name!r} holds {kind}.")
    bad = int((~torch.isfinite(tensor.float())).sum())
    if bad:
        raise InputError(f"Weights are finite numbers, but {bad:,} of the {tensor.numel():,} in {name!r} are not.")
    if name.endswith("running_var") and bool((tensor < 0).any()):
        raise InputError(f"A variance is at least 0, but {name!r} holds {float(tensor.min()):g}.")
    return tensor


def _shape(shape: tuple[int, ...] | torch.Size) -> str:
    return "×".join(map(str, shape)) or "no array"
