"""Batched picture operations on any device: one affine resampling, Gaussian blur, noise, extinction.

Offsets and angles are in pixels and radians, x along columns, y along rows; the center of the pixel in column j and
row i is (x, y) = (j, i). No operation loops over samples. On a CPU pictures in float32 are blurred and resampled by
`ops_native`, to the same numbers but for rounding.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lookalike.augmentations import ops_native
from lookalike.augmentations.ops_native import TRUNCATE
from lookalike.errors import unknown
from lookalike.parallel import in_parts

OUTSIDE = ("zeros", "border")


def warp(
    images: Tensor,
    size: int,
    *,
    flip_x: Tensor,
    flip_y: Tensor,
    angle: Tensor,
    scale: Tensor,
    shift_x: Tensor,
    shift_y: Tensor,
    sigma: Tensor | None = None,
) -> Tensor:
    """Blur, flip, rotate, scale, shift and crop about the center, in one bilinear interpolation with zeros outside.

    images : (B, C, H, W) float32. flip_x, flip_y : (B,) bool, mirror columns, rows. angle : (B,) radians, turning
    the +x axis to the +y axis. scale : (B,), above 1 enlarges both axes alike. shift_x, shift_y : (B,) px, moves the
    content. sigma : (B, C) px of the stored picture, see `blur` (default: none). Returns the central
    (B, C, size, size), cropped as `encoder_input` crops stored pictures.
    """
    H, W = images.shape[2:]
    # What lies at offset d from the picture's center came from the offset F·R(−angle)·(d − shift)/scale.
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale  # (B,)
    sign_x, sign_y = 1.0 - 2.0 * flip_x.to(cos.dtype), 1.0 - 2.0 * flip_y.to(cos.dtype)  # (B,)
    matrix = torch.stack(
        [torch.stack([sign_x * cos, sign_x * sin], -1), torch.stack([-sign_y * sin, sign_y * cos], -1)], -2
    )  # (B, 2, 2)
    # An even crop of an odd picture, or the reverse, is half a pixel off the picture's center.
    crop_x, crop_y = (W - size) // 2 - (W - size) / 2, (H - size) // 2 - (H - size) / 2
    moved = torch.stack([crop_x - shift_x.to(cos.dtype), crop_y - shift_y.to(cos.dtype)], -1)  # (B, 2)
    return resample(images, matrix, (matrix @ moved[..., None])[..., 0], size, sigma=sigma)


def resample(
    images: Tensor, matrix: Tensor, offset: Tensor, size: int, *, outside: str = "zeros", sigma: Tensor | None = None
) -> Tensor:
    """Bilinear interpolation of the pictures, blurred if so asked, at matrix·u + offset for every output pixel.

    images : (B, C, H, W). matrix : (B, 2, 2), offset : (B, 2), both as (x, y) in px. u runs over the output pixels'
    offsets from the output's center, and the result is an offset from the picture's center. outside :
    `zeros`, or `border` (the nearest pixel). sigma : (B, C), see `blur` (default: none). Returns (B, C, size, size).
    """
    if outside not in OUTSIDE:
        raise unknown("rule for what lies outside", outside, OUTSIDE)
    B = len(images)
    _check("matrix", matrix, (B, 2, 2))
    _check("offset", offset, (B, 2))
    if sigma is not None:
        _check("sigma", sigma, images.shape[:2])
    if _is_native(images):
        return _resample_natively(images, matrix, offset, size, outside, sigma)
    return resample_by_torch(images if sigma is None else blur_by_torch(images, sigma), matrix, offset, size, outside)


def resample_by_torch(images: Tensor, matrix: Tensor, offset: Tensor, size: int, outside: str = "zeros") -> Tensor:
    """`resample` on any device, without the blur."""
    H, W = images.shape[2:]
    # affine_grid and grid_sample (align_corners=False) measure from centers, in half widths: ±1 are the outer edges.
    half = images.new_tensor([W / 2, H / 2])  # (2,)
    theta = torch.cat([matrix * (size / 2), offset[..., None]], -1).to(images.dtype) / half[:, None]  # (B, 2, 3)
    grid = F.affine_grid(theta, [len(images), 1, size, size], align_corners=False)  # (B, h, w, 2)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=outside, align_corners=False)


def _check(name: str, given: Tensor, shape: tuple[int, ...]) -> None:
    """ValueError for another shape, since compiled loops would read what lies beyond the end."""
    if given.shape != shape:
        raise ValueError(f"{name} has the shape {tuple(given.shape)}, but must have {tuple(shape)}.")


def _is_native(images: Tensor) -> bool:
    return images.device.type == "cpu" and images.dtype == torch.float32 and not images.requires_grad


def _resample_natively(
    images: Tensor, matrix: Tensor, offset: Tensor, size: int, outside: str, sigma: Tensor | None
) -> Tensor:
    B, C, H, W = images.shape
    matrix, offset = matrix.double(), offset.double()
    # The output's first pixel, where it comes from, and how far a step along its columns and rows leads there.
    first = offset + matrix.new_tensor([(W - 1) / 2, (H - 1) / 2]) - matrix.sum(2) * (size - 1) / 2  # (B, 2)
    affine = torch.cat([first, matrix[:, :, 0], matrix[:, :, 1]], 1).contiguous().numpy()  # (B, 6)
    pictures, widths = images.contiguous().numpy(), _widths(sigma, B, C)
    out = np.empty((B, C, size, size), np.float32)

    def some(part: slice) -> None:
        ops_native.resampled(pictures[part], widths[part], affine[part], outside == "border", out[part])

    in_parts(some, B, torch.get_num_threads())
    return torch.from_numpy(out)


def _widths(sigma: Tensor | None, B: int, C: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.zeros((B, C)) if sigma is None else sigma.double().contiguous().numpy()


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Convolve every band of every picture with its own Gaussian.

    images : (B, C, H, W) float32. sigma : (B, C) px, 0 leaves a band as it is. Edges are mirrored about the outer
    edge of the border pixels (`reflect` in scipy.ndimage, d c b a | a b c d | d c b a), which conserves total flux;
    kernels end at 4σ, at most the picture's longer side away. Returns a new (B, C, H, W).
    """
    _check("sigma", sigma, images.shape[:2])
    if not _is_native(images):
        return blur_by_torch(images, sigma)
    pictures, widths = images.contiguous().numpy(), _widths(sigma, *images.shape[:2])
    out = np.empty_like(pictures)
    in_parts(
        lambda part: ops_native.blurred(pictures[part], widths[part], out[part]), len(out), torch.get_num_threads()
    )
    return torch.from_numpy(out)


def blur_by_torch(images: Tensor, sigma: Tensor) -> Tensor:
    """`blur` on any device."""
    H, W = images.shape[2:]
    planes = images.reshape(-1, H, W).clone()  # (B·C, H, W)
    widths = sigma.reshape(-1).to(images.dtype)
    wanted = torch.nonzero((widths > 0) & widths.isfinite())[:, 0]  # (n,)
    if not len(wanted):
        return planes.view(images.shape)
    widths, x = widths[wanted], planes[wanted]  # (n,), (n, H, W)
    R = min(int(TRUNCATE * float(widths.max()) + 0.5), max(H, W))
    taps = gaussian_taps(widths, R, max(H, W))  # (n, 2R + 1)
    x = F.conv2d(_mirrored(x, R, 2)[None], taps[:, None, None], groups=len(x))[0]  # along the rows
    planes[wanted] = F.conv2d(_mirrored(x, R, 1)[None], taps[:, None, :, None], groups=len(x))[0]  # down the columns
    return planes.view(images.shape)


def gaussian_taps(sigma: Tensor, R: int, limit: int) -> Tensor:
    """Gaussian kernels (n, 2R + 1) of sigma (n,) px that sum to 1 and end at 4σ, at most `limit` px away."""
    distance = torch.arange(-R, R + 1, device=sigma.device, dtype=sigma.dtype).abs()  # (2R + 1,)
    end = (TRUNCATE * sigma + 0.5).floor().clamp_max(limit)  # (n,)
    taps = torch.exp(-0.5 * (distance / sigma.clamp_min(1e-6)[:, None]).square())  # (n, 2R + 1)
    taps = taps.masked_fill_(distance > end[:, None], 0.0)
    return taps / taps.sum(dim=1, keepdim=True)


def _mirrored(x: Tensor, R: int, dim: int) -> Tensor:
    """Pictures (n, H, W) with R px more at both ends of one axis, mirrored as often as it takes."""
    size = x.shape[dim]
    if size < R:
        place = torch.arange(-R, size + R, device=x.device) % (2 * size)
        return x.index_select(dim, torch.minimum(place, 2 * size - 1 - place))
    start, end = x.narrow(dim, 0, R).flip(dim), x.narrow(dim, size - R, R).flip(dim)
    return torch.cat([start, x, end], dim)


def add_noise_(images: Tensor, sigma: Tensor, normal: Tensor) -> Tensor:
    """Add normal (B, C, H, W) times sigma (B, C), in place."""
    return images.addcmul_(normal, sigma.to(images.dtype)[..., None, None])


def transmission(ebv: Tensor, coefficients: Tensor) -> Tensor:
    """The factor 10^(c·E) on the flux of each band: ebv (B,) mag, coefficients c (C,) → (B, C)."""
    return torch.pow(10.0, ebv[:, None] * coefficients)
