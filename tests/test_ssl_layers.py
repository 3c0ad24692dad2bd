"""The layers that stand for torchvision's: equal values and gradients, whatever is done to be fast."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lookalike.ssl import layers
from lookalike.ssl.layers import (
    PRODUCTS_UP_TO,
    Conv2d,
    SubBatchNorm2d,
    normalize_parts,
    use_fast_convolutions,
    weight_gradient,
)


@pytest.mark.parametrize(("batch", "parts"), [(8, 2), (8, 4), (10, 3), (6, 1)])
def test_sub_batch_norm_is_batch_norm_of_each_part(batch: int, parts: int) -> None:
    """Values and gradients equal those of separate nn.BatchNorm2d, as if each part were another process's batch."""
    torch.manual_seed(0)
    x = torch.randn(batch, 5, 4, 4) * 3 + 1
    ours, plain = SubBatchNorm2d(5), nn.BatchNorm2d(5)
    ours.sub_batches = parts
    with torch.no_grad():
        ours.weight.uniform_(0.5, 2)
        ours.bias.uniform_(-1, 1)
        plain.weight.copy_(ours.weight)
        plain.bias.copy_(ours.bias)
    separate = [nn.BatchNorm2d(5) for _ in x.tensor_split(parts)]
    for one in separate:
        one.load_state_dict(plain.state_dict())
    weights = torch.randn(batch, 5, 4, 4)
    (ours(x) * weights).sum().backward()
    outputs = [one(part) for one, part in zip(separate, x.tensor_split(parts), strict=True)]
    (torch.cat(outputs) * weights).sum().backward()

    torch.testing.assert_close(
        ours(x), torch.cat([one(p) for one, p in zip(separate, x.tensor_split(parts), strict=True)])
    )
    torch.testing.assert_close(ours.weight.grad, sum(one.weight.grad for one in separate))
    torch.testing.assert_close(ours.bias.grad, sum(one.bias.grad for one in separate))
    mean = torch.stack([one.running_mean for one in separate]).mean(dim=0)
    variance = torch.stack([one.running_var for one in separate]).mean(dim=0)
    torch.testing.assert_close(ours.running_mean, mean)
    torch.testing.assert_close(ours.running_var, variance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "every other row", "turned"])
@pytest.mark.parametrize(("shape", "parts"), [((10, 6, 5, 4), 3), ((4, 3, 1, 1), 2), ((6, 40, 1, 7), 2)])
def test_parts_normalized_in_place_are_parts_put_together(
    dtype: torch.dtype, layout: str, shape: tuple[int, int, int, int], parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, values, statistics and gradients; the definition is what other devices take."""
    if layout in ("contiguous", "channels last"):
        monkeypatch.setattr(layers, "normalize_parts", lambda *given: pytest.fail("the definition was taken"))
    B, C, H, W = shape
    x = torch.randn(B, C, 2 * H, W)[:, :, ::2] if layout == "every other row" else torch.randn(shape)
    x = x.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2) if layout == "turned" else x
    x = x.contiguous(memory_format=torch.channels_last) if layout == "channels last" else x
    weights = torch.randn(shape).to(dtype)
    results = []
    for slow in (False, True):
        norm = SubBatchNorm2d(C)
        norm.sub_batches = parts
        with torch.no_grad():
            norm.weight.copy_(torch.linspace(0.5, 2, C))
            norm.bias.copy_(torch.linspace(-1, 1, C))
        given = x.to(dtype).detach().requires_grad_()
        if slow:
            sizes = layers.part_sizes(B, parts)
            means, variances = torch.zeros(parts, C), torch.zeros(parts, C)
            made = normalize_parts(given, norm.weight, norm.bias, means, variances, sizes, norm.eps)
            norm.running_mean.lerp_(means.mean(0), norm.momentum)
            norm.running_var.lerp_(variances.mean(0), norm.momentum)
        else:
            made = norm(given)
        (made.float() * weights.float()).sum().backward()
        results.append(
            (made.detach(), given.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var)
        )
    for fast, expected in zip(*results, strict=True):
        assert fast is not None
        assert torch.equal(fast, expected)


def test_a_part_of_one_value_has_no_spread_to_be_normalized_by() -> None:
    norm = SubBatchNorm2d(3)
    norm.sub_batches = 2
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm(torch.randn(2, 3, 1, 1))


def test_sub_batch_norm_in_evaluation_is_batch_norm() -> None:
    ours, plain = SubBatchNorm2d(3), nn.BatchNorm2d(3)
    ours.sub_batches = 4
    x = torch.randn(8, 3, 2, 2)
    ours(x)
    plain.load_state_dict(ours.state_dict())
    assert torch.equal(ours.eval()(x), plain.eval()(x))


def slow_weight_gradient(
    grad: torch.Tensor, input: torch.Tensor, kernel: int, stride: int, padding: int
) -> torch.Tensor:
    """Its definition: every output pixel adds its gradient times the input pixel that a place of the kernel saw."""
    D, h, w = grad.shape[1:]
    C, H, W = input.shape[1:]
    gradient = torch.zeros(D, C, kernel, kernel)
    for row in range(h):
        for column in range(w):
            for i in range(kernel):
                for j in range(kernel):
                    y, x = row * stride + i - padding, column * stride + j - padding
                    if 0 <= y < H and 0 <= x < W:
                        gradient[:, :, i, j] += grad[:, :, row, column].T @ input[:, :, y, x]
    return gradient


@given(
    H=st.integers(1, 7),
    W=st.integers(1, 7),
    kernel=st.sampled_from([1, 2, 3, 5, 7]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
)
def test_weight_gradient_is_its_definition(H: int, W: int, kernel: int, stride: int, padding: int) -> None:
    if min(H, W) + 2 * padding < kernel or padding >= kernel:
        return
    generator = torch.Generator().manual_seed(H * 7 + W)
    input = torch.randn(3, 2, H, W, generator=generator)
    shape = F.conv2d(input, torch.zeros(4, 2, kernel, kernel), None, stride, padding).shape
    grad = torch.randn(shape, generator=generator)
    got = weight_gradient(grad, input, kernel, stride, padding)
    torch.testing.assert_close(got, slow_weight_gradient(grad, input, kernel, stride, padding), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 12])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 2, 0), (7, 2, 3)])
def test_convolution_is_torchs(size: int, kernel: int, stride: int, padding: int, dtype: torch.dtype) -> None:
    """Output and both gradients, on both sides of where the way changes, in float32 and autocast to bfloat16."""
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 6, kernel, stride=stride, padding=padding, bias=False).to(memory_format=torch.channels_last)
    ours = Conv2d(5, 6, kernel, stride=stride, padding=padding, bias=False)
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(4, 5, size, size).to(memory_format=torch.channels_last)
    results = []
    for layer, reduced in ((plain, False), (ours, dtype == torch.bfloat16)):
        at = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            out = layer(at)
        assert out.dtype == (dtype if reduced else torch.float32)
        (out.float() * torch.arange(out.numel()).view(out.shape).cos()).sum().backward()
        assert layer.weight.grad is not None
        assert layer.weight.grad.dtype == torch.float32
        results.append((out.float(), at.grad, layer.weight.grad))
    # bfloat16 keeps 8 bits of each number; the library's own bfloat16 gradient would be no measure, see layers.py.
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.1}
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, **tolerance)


def test_both_ways_of_the_weight_gradient_are_taken() -> None:
    taken = []
    for width in (PRODUCTS_UP_TO[torch.float32], PRODUCTS_UP_TO[torch.float32] + 1):
        out = Conv2d(2, 2, 3, padding=1, bias=False)(torch.randn(1, 2, width, width))
        taken.append(type(out.grad_fn).__name__)
    assert taken == ["_ConvolutionBackward", "ConvolutionBackward0"]


def test_only_plain_convolutions_are_replaced_and_keep_their_weights() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.Sequential(nn.Conv2d(4, 4, 3, bias=True), nn.Conv2d(4, 4, 3, groups=2, bias=False)),
        nn.Sequential(nn.Conv2d(4, 4, (3, 1), bias=False), nn.Conv2d(4, 4, 1, stride=(1, 1), bias=False)),
        nn.Sequential(nn.Conv2d(4, 4, 1, stride=(1, 2), bias=False), nn.Conv2d(4, 4, 3, padding="same", bias=False)),
        nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect", bias=False)),
        nn.Sequential(nn.Conv2d(4, 5, 1, stride=2, bias=False)),
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    use_fast_convolutions(model)
    kinds = [type(module) for module in model.modules() if isinstance(module, nn.Conv2d)]
    plain = nn.Conv2d
    assert kinds == [Conv2d, plain, plain, plain, Conv2d, plain, plain, plain, Conv2d]
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert model(torch.randn(2, 3, 13, 13)).shape == (2, 5, 3, 2)
