"""The two layers in which our ResNets differ from torchvision's; parameters and their names are the same.

Batch norm over parts of a batch stands for the separate processes of the paper; the convolution takes its weight
gradient from matrix products where the library is slow, which is on a CPU at the small pictures of the last stages.
"""

from __future__ import annotations

import functools
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# The widest output, in px, for which matrix products gave a CPU's weight gradient sooner than the library's own
# convolution did (ResNet-18 and -50, pictures of 32 to 96 px, 2 threads with 512-bit registers).
PRODUCTS_UP_TO = {torch.bfloat16: 6, torch.float32: 2}


class SubBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that, in training, normalizes each of `sub_batches` consecutive parts of the batch by itself.

    It stands for the separate processes of the paper (He et al. 2020, section 3.3): together with keys that are
    permuted before and put back after, a query and its key are normalized by different statistics, so that the
    statistics cannot give the answer away. The running statistics follow the mean over the parts. In evaluation
    it is plain batch norm, and its parameters have the same names.
    """

    sub_batches: int = 1

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.sub_batches == 1:
            return super().forward(input)
        sizes = part_sizes(len(input), self.sub_batches)
        means = cast(Tensor, self.running_mean).new_zeros(len(sizes), self.num_features)
        variances = torch.zeros_like(means)
        # A compiler cannot look into the one, and GPUs have a faster norm than it calls; it misreads pictures with gaps
        # between their rows (torch 2.14), and takes single values, which have no spread.
        in_place = (
            input.device.type == "cpu"
            and not torch.compiler.is_compiling()
            and (input.is_contiguous() or input.is_contiguous(memory_format=torch.channels_last))
            and sizes[-1] * input[0, 0].numel() > 1
        )
        norm = _PartNorm.apply if in_place else normalize_parts
        normed: Tensor = norm(input, self.weight, self.bias, means, variances, sizes, self.eps)
        cast(Tensor, self.running_mean).lerp_(means.mean(dim=0), self.momentum or 0.0)
        cast(Tensor, self.running_var).lerp_(variances.mean(dim=0), self.momentum or 0.0)
        cast(Tensor, self.num_batches_tracked).add_(1)
        return normed


def normalize_parts(
    input: Tensor, weight: Tensor, bias: Tensor, means: Tensor, variances: Tensor, sizes: list[int], eps: float
) -> Tensor:
    """Batch norm in training of consecutive parts of a batch (B, C, H, W), each by itself.

    means, variances : (parts, C), filled with the statistics of each part. sizes : how many objects each has.
    """
    # Its gradient is one concatenation; that of tensor_split is a sum of whole batches padded with zeros.
    parts = torch.split(input, sizes)  # each (b, C, H, W)
    # momentum 1 makes batch_norm leave each part's own statistics in its row of the two buffers.
    normed = [
        F.batch_norm(part, mean, variance, weight, bias, True, 1.0, eps)
        for part, mean, variance in zip(parts, means, variances, strict=True)
    ]
    return torch.cat(normed)  # (B, C, H, W)


class _PartNorm(torch.autograd.Function):
    """`normalize_parts` to the last bit, each part written to its place: copying them took as long as normalizing."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor,
        means: Tensor,
        variances: Tensor,
        sizes: list[int],
        eps: float,
    ) -> Tensor:
        out, mean, inverse_std = torch.empty_like(input), torch.empty_like(means), torch.empty_like(means)
        for i, (part, made) in enumerate(zip(torch.split(input, sizes), torch.split(out, sizes), strict=True)):
            torch.ops.aten.native_batch_norm.out(
                *(part, weight, bias, means[i], variances[i], True, 1.0, eps),
                out=made,
                save_mean=mean[i],
                save_invstd=inverse_std[i],
            )
        ctx.save_for_backward(input, weight, mean, inverse_std)
        ctx.sizes, ctx.eps = sizes, eps
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, mean, inverse_std = ctx.saved_tensors
        found = [
            torch.ops.aten.native_batch_norm_backward(
                *(given, part, weight, None, None, mean[i], inverse_std[i], True, ctx.eps, [True] * 3)
            )
            for i, (given, part) in enumerate(
                zip(torch.split(grad, ctx.sizes), torch.split(input, ctx.sizes), strict=True)
            )
        ]
        of_input, of_weight, of_bias = zip(*found, strict=True)
        # In the order in which the parts' gradients come in where each is a step of its own.
        weight_grad, bias_grad = (functools.reduce(torch.add, reversed(each)) for each in (of_weight, of_bias))
        return torch.cat(of_input), weight_grad, bias_grad, None, None, None, None


def part_sizes(B: int, parts: int) -> list[int]:
    """The sizes of `parts` consecutive parts of B objects, as equal as can be, larger ones first."""
    return [B // parts + (part < B % parts) for part in range(parts)]


class Conv2d(nn.Conv2d):
    """A convolution without bias, groups or dilation, trained faster on a CPU where its output is few px wide."""

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu" or not (torch.is_grad_enabled() and self.weight.requires_grad):
            return super().forward(input)
        weight = self.weight
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            input, weight = input.to(dtype), weight.to(dtype)
        stride, padding, kernel = int(self.stride[0]), int(self.padding[0]), int(self.kernel_size[0])
        width = (max(input.shape[2:]) + 2 * padding - kernel) // stride + 1
        # Where one side is 1 px the library's bfloat16 gradient cannot be had at all, see below.
        if width > PRODUCTS_UP_TO.get(input.dtype, 0) and min(input.shape[2:]) > 1:
            return F.conv2d(input, weight, None, stride, padding)
        return cast(Tensor, _Convolution.apply(input, weight, stride, padding))


class _Convolution(torch.autograd.Function):
    """The library's convolution and input gradient, with the weight gradient of `weight_gradient`.

    Which is also the correct one: of 1-px pictures at stride 2 the library's weight gradient in bfloat16 is
    uninitialized memory (torch 2.14 on a CPU).
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(input, weight, None, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        input, weight = ctx.saved_tensors
        stride, padding = ctx.stride, ctx.padding
        grad_input = None
        if ctx.needs_input_grad[0]:
            grad_input, _, _ = torch.ops.aten.convolution_backward(
                grad, input, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [True, False, False]
            )
        return grad_input, weight_gradient(grad, input, weight.shape[2], stride, padding), None, None


def weight_gradient(grad: Tensor, input: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """The gradient (D, C, kernel, kernel) of a convolution's weight, one matrix product for each place of the kernel.

    grad : (B, D, h, w) at the output. input : (B, C, H, W). Only those pixels meet a place of the kernel that lie
    within the picture, so padding costs nothing: of a 1-px picture only the kernel's center takes part.
    """
    D, h, w = grad.shape[1:]
    C, H, W = input.shape[1:]
    grad, input = grad.permute(0, 2, 3, 1), input.permute(0, 2, 3, 1)  # (B, h, w, D), (B, H, W, C)
    gradient = grad.new_zeros((D, kernel, kernel, C))
    for i in range(kernel):
        out_rows, in_rows = _meeting(i, h, H, stride, padding)
        for j in range(kernel):
            out_columns, in_columns = _meeting(j, w, W, stride, padding)
            out = grad[:, out_rows, out_columns].reshape(-1, D)  # (P, D)
            gradient[:, i, j] = out.T @ input[:, in_rows, in_columns].reshape(-1, C)  # (D, C)
    return gradient.permute(0, 3, 1, 2)  # (D, C, kernel, kernel)


def _meeting(place: int, outputs: int, inputs: int, stride: int, padding: int) -> tuple[slice, slice]:
    """Which output pixels along one axis see a pixel of the picture at this place of the kernel, and which they see."""
    first = max(0, -((place - padding) // stride))
    last = min(outputs - 1, (inputs - 1 + padding - place) // stride)
    count = max(0, last - first + 1)
    start = first * stride + place - padding if count else 0
    return slice(first, first + count), slice(start, start + (count - 1) * stride + 1 if count else 0, stride)


def use_fast_convolutions(module: nn.Module) -> None:
    """Put a Conv2d of ours, with the same weight, in the place of every plain convolution inside `module`."""
    for name, child in module.named_children():
        if type(child) is nn.Conv2d and _is_plain(child):
            size: dict[str, Any] = {"stride": child.stride, "padding": child.padding}
            with torch.device("meta"):  # its own weight is never made
                fast = Conv2d(child.in_channels, child.out_channels, child.kernel_size, bias=False, **size)  # type: ignore[arg-type]
            fast.weight = child.weight
            setattr(module, name, fast)
        else:
            use_fast_convolutions(child)


def _is_plain(convolution: nn.Conv2d) -> bool:
    """Whether a convolution is one that Conv2d can stand for: as in a ResNet, square in all respects."""
    square = all(
        isinstance(sides, tuple) and len(set(sides)) == 1
        for sides in (convolution.kernel_size, convolution.stride, convolution.padding)
    )
    once = convolution.groups == 1 and convolution.dilation == (1, 1) and convolution.padding_mode == "zeros"
    return square and once and convolution.bias is None
