"""Batched picture operations on any device: one affine resampling, Gaussian blur as matrix products, noise, extinction.

Offsets and angles are in pixels and radians, x along columns, y along rows; the center of the pixel in column j and
row i is (x, y) = (j, i). No operation loops over samples.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TRUNCATE = 4.0  # Gaussian kernels end at 4σ, scipy.ndimage's default
BLUR_BLOCK = 32  # bands blurred at once on a CPU, so that the matrices stay in cache
BAND = 32  # rows of a banded product computed at once


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
) -> Tensor:
    """Flip, rotate, scale, shift and crop about the center, in one bilinear interpolation with zeros outside.

    images : (B, C, H, W) float32. flip_x, flip_y : (B,) bool, mirror columns, rows. angle : (B,) radians, turning
    the +x axis to the +y axis. scale : (B,), above 1 enlarges both axes alike. shift_x, shift_y : (B,) px, moves the
    content. Returns the central (B, C, size, size), cropped as `encoder_input` crops stored pictures.
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
    return resample(images, matrix, (matrix @ moved[..., None])[..., 0], size)


def resample(images: Tensor, matrix: Tensor, offset: Tensor, size: int, outside: str = "zeros") -> Tensor:
    """Bilinear interpolation at matrix·u + offset for every output pixel.

    images : (B, C, H, W). matrix : (B, 2, 2), offset : (B, 2), both as (x, y) in px. u runs over the output pixels'
    offsets from the output's center, and the result is an offset from the picture's center. outside :
    `zeros`, or `border` (the nearest pixel). Returns (B, C, size, size).
    """
    H, W = images.shape[2:]
    # affine_grid and grid_sample (align_corners=False) measure from centers, in half widths: ±1 are the outer edges.
    half = images.new_tensor([W / 2, H / 2])  # (2,)
    theta = torch.cat([matrix * (size / 2), offset[..., None]], -1).to(images.dtype) / half[:, None]  # (B, 2, 3)
    grid = F.affine_grid(theta, [len(images), 1, size, size], align_corners=False)  # (B, h, w, 2)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=outside, align_corners=False)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Convolve every band of every picture with its own Gaussian.

    images : (B, C, H, W) float32. sigma : (B, C) px, 0 leaves a band as it is. Edges are mirrored about the outer
    edge of the border pixels (`reflect` in scipy.ndimage, d c b a | a b c d | d c b a), which conserves total flux;
    kernels end at 4σ, at most one picture away. Returns a new (B, C, H, W).
    """
    H, W = images.shape[2:]
    planes = images.reshape(-1, H, W).clone()  # (B·C, H, W)
    wanted = torch.nonzero(sigma.reshape(-1) > 0)[:, 0]  # (n,)
    widths = sigma.reshape(-1)[wanted].to(images.dtype)  # (n,)
    per_block = BLUR_BLOCK if images.device.type == "cpu" else max(1, len(wanted))
    for rows, some in zip(torch.split(wanted, per_block), torch.split(widths, per_block), strict=True):
        G = gaussian_matrices(some, H)  # (n, H, H)
        across = G if W == H else gaussian_matrices(some, W)  # (n, W, W)
        width = kernel_radius(float(some.max()), max(H, W))
        planes[rows] = _banded(across, _banded(G, planes[rows], width).mT, width).mT  # G·X·Gᵀ
    return planes.view(images.shape)


def kernel_radius(sigma: float, size: int) -> int:
    """The number of px at which the kernel for a picture of `size` px ends."""
    return min(int(TRUNCATE * sigma + 0.5), size)


def _banded(G: Tensor, X: Tensor, width: int) -> Tensor:
    """G @ X for G (n, size, size) that is 0 beyond `width` px of its diagonal, skipping most of what is 0."""
    size = G.shape[1]
    step = BAND if size > 2 * BAND else size  # small matrices are quicker whole
    out = X.new_empty(X.shape)
    for start in range(0, size, step):
        end = min(start + step, size)
        low, high = max(0, start - width), min(size, end + width)
        torch.bmm(G[:, start:end, low:high], X[:, low:high], out=out[:, start:end])
    return out


def gaussian_matrices(sigma: Tensor, size: int) -> Tensor:
    """The (n, size, size) matrices G for which G·x is x (size,) blurred by sigma (n,) px with mirrored edges.

    The kernel's parts beyond an edge are folded back into the band, so the columns of G sum to 1.
    """
    if not len(sigma):
        return sigma.new_zeros((0, size, size))
    radius = (TRUNCATE * sigma + 0.5).floor().clamp_max(size)  # (n,)
    R = kernel_radius(float(sigma.max()), size)
    distance = torch.arange(-R, R + 1, device=sigma.device, dtype=sigma.dtype).abs()  # (2R + 1,)
    taps = torch.exp(-0.5 * (distance / sigma.clamp_min(1e-6)[:, None]).square())  # (n, 2R + 1)
    taps = taps.masked_fill_(distance > radius[:, None], 0.0)
    taps = F.pad(taps / taps.sum(1, keepdim=True), (size - R, size - R))  # (n, 2·size + 1), the center at `size`

    G = taps[:, 1:-1].unfold(1, size, 1).flip(1)  # (n, size, size), G[i, j] = taps at j − i
    # Pixel j's mirror image before the first pixel is at −1 − j, i + j + 1 away from pixel i; likewise at the end.
    beyond = F.pad(taps[:, size + 1 : size + 1 + R], (0, R))  # (n, 2R)
    corner = beyond.unfold(1, R, 1)[:, :R]  # (n, R, R), at i + j + 1
    G[:, :R, :R] += corner
    G[:, size - R :, size - R :] += corner.flip(1, 2)
    return G


def add_noise_(images: Tensor, sigma: Tensor, normal: Tensor) -> Tensor:
    """Add normal (B, C, H, W) times sigma (B, C), in place."""
    return images.addcmul_(normal, sigma.to(images.dtype)[..., None, None])


def transmission(ebv: Tensor, coefficients: Tensor) -> Tensor:
    """The factor 10^(c·E) on the flux of each band: ebv (B,) mag, coefficients c (C,) → (B, C)."""
    return torch.pow(10.0, ebv[:, None] * coefficients)
