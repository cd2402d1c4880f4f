"""Images that are not of the model's domain, made from images that are.

Showing a detector such outliers beside the known attacks makes it draw the border around the
benign images, not only around the attacks it knows: D. Hendrycks, M. Mazeika, T. Dietterich,
"Deep Anomaly Detection with Outlier Exposure", ICLR 2019.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from modelward.defense.inputs import Images

__all__ = ["OUTLIER_KINDS", "jitter", "make_outliers"]

Floats = NDArray[np.float32]
Kind = Callable[[np.random.Generator, Floats, Floats], Floats]


def _affine(
    rng: np.random.Generator,
    images: Floats,
    *,
    turn: NDArray[Any],
    zoom: NDArray[Any],
    shear: float = 0.0,
    move: float = 0.0,
    bend: float = 0.0,
    shift: NDArray[Any] | None = None,
) -> Floats:
    """Turn (radians, (n,)), zoom ((n, 2)), shear, move and bend (n, h, w, c); edges repeat.

    ``move`` draws up to so much of half the side, ``shift`` ((n, 2)) says it.
    """
    n, height, width, _ = images.shape
    slant = rng.normal(0, shear, n) if shear else np.zeros(n)
    cos, sin = np.cos(turn), np.sin(turn)
    theta = np.empty((n, 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 0, 1] = zoom[:, 0] * cos, zoom[:, 0] * (slant * cos - sin)
    theta[:, 1, 0], theta[:, 1, 1] = zoom[:, 1] * sin, zoom[:, 1] * (slant * sin + cos)
    theta[:, :, 2] = rng.uniform(-move, move, (n, 2)) if move else 0
    if shift is not None:
        theta[:, :, 2] = shift
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    grid = F.affine_grid(torch.from_numpy(theta), list(tensor.shape), align_corners=False)
    if bend:
        field = rng.normal(0, bend, (n, 2, 5, 5)).astype(np.float32)
        wave = F.interpolate(torch.from_numpy(field), (height, width), mode="bicubic")
        grid = grid + wave.permute(0, 2, 3, 1)
    moved = F.grid_sample(tensor, grid, padding_mode="border", align_corners=False)
    return np.ascontiguousarray(moved.permute(0, 2, 3, 1).numpy())


def jitter(rng: np.random.Generator, images: Images) -> Images:
    """Small changes that keep an image benign: a pixel's shift, a few degrees, some contrast."""
    n, height, width, _ = images.shape
    unit = images.astype(np.float32) / np.float32(255)
    moved = _affine(
        rng,
        unit,
        turn=np.asarray(rng.normal(0, 0.06, n)),
        zoom=np.exp(rng.normal(0, 0.04, (n, 2))),
        move=2 / max(height, width),
    )
    gain = rng.uniform(0.92, 1.08, (n, 1, 1, 1)).astype(np.float32)
    return _to_uint8(moved * gain)


def _to_uint8(images: Floats) -> Images:
    return (np.clip(images, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _ones(n: int) -> Floats:
    return np.ones((n, 2), np.float32)


def _patches(rng: np.random.Generator, a: Floats, b: Floats) -> Floats:
    """Tiles in another order."""
    out = a.copy()
    _, height, width, _ = a.shape
    for index, image in enumerate(a):
        tiles = int(rng.integers(2, 5))
        high, wide = height // tiles, width // tiles
        if not high or not wide:
            continue
        order = rng.permutation(tiles * tiles)
        for place, origin in enumerate(order):
            y, x = divmod(place, tiles)
            v, u = divmod(int(origin), tiles)
            out[index, y * high : (y + 1) * high, x * wide : (x + 1) * wide] = image[
                v * high : (v + 1) * high, u * wide : (u + 1) * wide
            ]
    return out


def _mix(rng: np.random.Generator, a: Floats, b: Floats) -> Floats:
    """Two images blended, the lighter or the darker of both."""
    share = rng.uniform(0.3, 0.7, (len(a), 1, 1, 1)).astype(np.float32)
    kind = rng.integers(0, 4, (len(a), 1, 1, 1))
    blended = share * a + (1 - share) * b
    return np.select([kind < 2, kind == 2], [blended, np.maximum(a, b)], np.minimum(a, b)).astype(
        np.float32
    )


def _cut(rng: np.random.Generator, a: Floats, b: Floats) -> Floats:
    """One half of each of two images, the second moved."""
    n = len(a)
    moved = _affine(rng, b, turn=np.asarray(rng.normal(0, 0.5, n)), zoom=_ones(n), move=0.3)
    return np.where(_side(rng, a, 0.3), a, moved).astype(np.float32)


def _part(rng: np.random.Generator, a: Floats, b: Floats) -> Floats:
    """One side of a line through the image, turned and resized; the other side is empty."""
    n = len(a)
    kept = np.where(_side(rng, a, 0.35), a, _border(a))
    zoom = np.exp(rng.normal(-0.15, 0.25, (n, 2)))
    return _affine(rng, kept, turn=np.asarray(rng.normal(0, 0.8, n)), zoom=zoom, move=0.25)


def _collage(rng: np.random.Generator, a: Floats, b: Floats) -> Floats:
    """Parts of two images on one ground, where they differ from it most."""
    first, second = _part(rng, a, b), _part(rng, b, a)
    ground = _border(a)
    return np.where(np.abs(first - ground) >= np.abs(second - ground), first, second)


def _side(rng: np.random.Generator, a: Floats, reach: float) -> NDArray[np.bool_]:
    """One side of a random line per image, (n, h, w, 1)."""
    n, height, width, _ = a.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    angle = rng.uniform(0, 2 * np.pi, (n, 1, 1))
    side = x * np.cos(angle) + y * np.sin(angle) > rng.uniform(-reach, reach, (n, 1, 1))
    return np.asarray(side[..., None], dtype=np.bool_)


def _border(a: Floats) -> Floats:
    """The usual colour at the edge of each image, (n, 1, 1, c)."""
    edge = np.concatenate([a[:, 0], a[:, -1], a[:, :, 0], a[:, :, -1]], 1)
    return np.asarray(np.median(edge, 1)[:, None, None], dtype=np.float32)


def _warp(rng: np.random.Generator, a: Floats, b: Floats) -> Floats:
    """Bent, sheared and stretched beyond what the domain shows."""
    n = len(a)
    zoom = np.exp(rng.normal(0, 0.3, (n, 2)))
    return _affine(
        rng, a, turn=np.asarray(rng.normal(0, 0.5, n)), zoom=zoom, shear=0.4, move=0.15, bend=0.15
    )


def _turn(rng: np.random.Generator, a: Floats, b: Floats) -> Floats:
    """Turned by 50 to 310 degrees."""
    angle = rng.uniform(0.28 * np.pi, 1.72 * np.pi, len(a))
    return _affine(rng, a, turn=angle, zoom=_ones(len(a)))


def _resize(rng: np.random.Generator, a: Floats, b: Floats) -> Floats:
    """Much smaller or much larger, and moved."""
    n = len(a)
    factor = np.where(rng.random((n, 1)) < 0.5, rng.uniform(1.4, 2.5, (n, 1)), 0.6)
    zoom = factor * rng.uniform(0.8, 1.25, (n, 2))
    return _affine(rng, a, turn=np.zeros(n, np.float32), zoom=zoom, move=0.4)


def _place(rng: np.random.Generator, a: Floats, b: Floats) -> Floats:
    """Moved off its place by a twentieth to a fifth of the side, and a little resized.

    Where a domain puts its things (digits centred by mass) is what other images rarely hit.
    """
    n = len(a)
    angle, reach = rng.uniform(0, 2 * np.pi, n), rng.uniform(0.1, 0.4, n)
    shift = reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    zoom = np.exp(rng.normal(0, 0.12, (n, 2)))
    return _affine(rng, a, turn=np.zeros(n, np.float32), zoom=zoom, shift=shift)


def _shift(rng: np.random.Generator, a: Floats, b: Floats) -> Floats:
    """Moved off its place by a fourteenth to a fifth of the side, otherwise as it was."""
    n = len(a)
    angle, reach = rng.uniform(0, 2 * np.pi, n), rng.uniform(0.14, 0.4, n)
    shift = reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return _affine(rng, a, turn=np.zeros(n, np.float32), zoom=_ones(n), shift=shift)


def _invert(rng: np.random.Generator, a: Floats, b: Floats) -> Floats:
    """Dark and light exchanged, fully or in part."""
    low = rng.uniform(0.3, 1, (len(a), 1, 1, 1)).astype(np.float32)
    return np.asarray(low - a * low, dtype=np.float32)


def _thickness(rng: np.random.Generator, a: Floats, b: Floats) -> Floats:
    """Light parts grown or shrunk."""
    tensor = torch.from_numpy(np.ascontiguousarray(a.transpose(0, 3, 1, 2)))
    size = 3 if min(a.shape[1:3]) < 64 else 7
    grown = F.max_pool2d(tensor, size, 1, size // 2)
    shrunk = -F.max_pool2d(-tensor, size, 1, size // 2)
    pick = torch.from_numpy(rng.random((len(a), 1, 1, 1)) < 0.5)
    out = torch.where(pick, grown, shrunk).permute(0, 2, 3, 1).numpy()
    # Thick or thin alone may still belong to the domain; bent as well it rarely does.
    return _affine(rng, out, turn=rng.normal(0, 0.3, len(a)), zoom=_ones(len(a)), bend=0.08)


def _noise(rng: np.random.Generator, a: Floats, b: Floats) -> Floats:
    """Strong noise, of single pixels or of blocks."""
    level = rng.uniform(0.1, 0.8, (len(a), 1, 1, 1)).astype(np.float32)
    grain = rng.standard_normal(a.shape, dtype=np.float32)
    salt = rng.random(a.shape, dtype=np.float32)
    flipped = np.where(salt < level * 0.5, rng.random(a.shape, dtype=np.float32), a)
    return np.where(rng.random((len(a), 1, 1, 1)) < 0.5, a + level * grain, flipped)


def _phases(rng: np.random.Generator, a: Floats, b: Floats) -> Floats:
    """The amplitude spectrum of one image with the phases of noise, or of another image."""
    other = np.where(
        rng.random((len(a), 1, 1, 1)) < 0.7, rng.standard_normal(a.shape, dtype=np.float32), b
    )
    amplitude = np.abs(np.fft.rfft2(a, axes=(1, 2)))
    phase = np.angle(np.fft.rfft2(other, axes=(1, 2)))
    mixed = np.fft.irfft2(amplitude * np.exp(1j * phase), s=a.shape[1:3], axes=(1, 2))
    low = mixed.min((1, 2, 3), keepdims=True)
    span = np.maximum(mixed.max((1, 2, 3), keepdims=True) - low, 1e-6)
    return np.asarray((mixed - low) / span, dtype=np.float32)


def _ground(rng: np.random.Generator, a: Floats, b: Floats) -> Floats:
    """Another ground: tone, slope or clouds under the image, and another contrast."""
    n, height, width, channels = a.shape
    coarse = rng.random((n, channels, 4, 4), dtype=np.float32)
    clouds = F.interpolate(torch.from_numpy(coarse), (height, width), mode="bilinear")
    flat = rng.random((n, 1, 1, channels), dtype=np.float32)
    kind = rng.random((n, 1, 1, 1)) < 0.5
    ground = np.where(kind, flat, clouds.permute(0, 2, 3, 1).numpy())
    depth = rng.uniform(0.3, 1, (n, 1, 1, 1)).astype(np.float32)
    ink = rng.random((n, 1, 1, channels), dtype=np.float32)
    return (1 - a) * ground * depth + a * ink


def _occlude(rng: np.random.Generator, a: Floats, b: Floats) -> Floats:
    """A box over much of the image."""
    n, height, width, channels = a.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    cy, cx = rng.uniform(-0.4, 0.4, (2, n, 1, 1))
    high, wide = rng.uniform(0.35, 0.8, (2, n, 1, 1))
    box = (np.abs(y - cy) < high) & (np.abs(x - cx) < wide)
    tone = rng.random((n, 1, 1, channels), dtype=np.float32)
    return np.where(box[..., None], tone, a)


OUTLIER_KINDS: tuple[Kind, ...] = (
    _patches,
    _mix,
    _cut,
    _part,
    _collage,
    _warp,
    _turn,
    _resize,
    _place,
    _shift,
    _invert,
    _thickness,
    _noise,
    _phases,
    _ground,
    _occlude,
)


def make_outliers(rng: np.random.Generator, benign: Images, n: int) -> Images:
    """Draw outliers, equally many of each kind.

    Args:
        rng: Source of randomness.
        benign: (m, h, w, c) uint8, at least one.
        n: How many.

    Returns:
        (n, h, w, c) uint8. Not every one is certain to leave the domain (a turned 0 is a 0).
    """
    parts = np.array_split(np.arange(n), len(OUTLIER_KINDS))
    out = np.empty((n, *benign.shape[1:]), np.uint8)
    for kind, rows in zip(OUTLIER_KINDS, parts, strict=True):
        if not len(rows):
            continue
        first, second = rng.integers(0, len(benign), (2, len(rows)))
        a = benign[first].astype(np.float32) / np.float32(255)
        b = benign[second].astype(np.float32) / np.float32(255)
        out[rows] = _to_uint8(kind(rng, a, b))
    return out
