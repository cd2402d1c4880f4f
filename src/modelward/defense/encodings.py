"""Image encodings that both classes pass through, so that no encoding betrays a class.

Images reach a deployed detector as files: benign ones perhaps as JPEG, attack samples as PNG. A
detector trained on one encoding per class learns compression artefacts instead of content.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LOSSLESS", "Encoding", "apply", "random_encodings", "views"]

_LOSSLESS_SHARE = 0.3
_LOWEST_QUALITY = 75
_REVERSED_SHARE = 0.3


@dataclass(frozen=True)
class Encoding:
    """One way in which an image is stored; ``quality`` None is lossless (PNG, raw pixels)."""

    quality: int | None = None
    reverse_channels: bool = False
    """Colour order BGR instead of RGB, as some readers deliver."""

    @property
    def name(self) -> str:
        """For the report."""
        text = "lossless (PNG)" if self.quality is None else f"JPEG quality {self.quality}"
        return f"{text}, channels reversed" if self.reverse_channels else text


LOSSLESS = Encoding()


def views(channels: int) -> tuple[Encoding, ...]:
    """The encodings under which a detector is calibrated and reported."""
    fixed = (LOSSLESS, Encoding(95), Encoding(75))
    return (*fixed, Encoding(reverse_channels=True)) if channels == 3 else fixed


def random_encodings(rng: np.random.Generator, n: int, channels: int) -> list[Encoding]:
    """Draw n encodings: none or PNG, or JPEG of quality 75-100, the lower ones more often.

    The lower the quality, the more an image changes: drawn evenly, benign images of quality 75
    were called attacks three times as often as lossless ones.
    """
    span = 101 - _LOWEST_QUALITY
    quality = _LOWEST_QUALITY + np.floor(span * rng.random(n) ** 2).astype(np.int64)
    lossless = rng.random(n) < _LOSSLESS_SHARE
    reverse = (rng.random(n) < _REVERSED_SHARE) & (channels == 3)
    return [
        Encoding(None if plain else int(q), bool(turned))
        for plain, q, turned in zip(lossless, quality, reverse, strict=True)
    ]


def apply(images: NDArray[np.uint8], encodings: Encoding | list[Encoding]) -> NDArray[np.uint8]:
    """Store and re-read images.

    Args:
        images: (n, h, w, c) uint8. JPEG knows one or three channels; other counts are stored
            channel by channel.
        encodings: One for all, or one per image.

    Returns:
        (n, h, w, c) uint8, a new array.
    """
    chosen = [encodings] * len(images) if isinstance(encodings, Encoding) else encodings
    out = images.copy()
    for index, encoding in enumerate(chosen):
        image = out[index]
        if encoding.reverse_channels:
            image = image[..., ::-1]
        if encoding.quality is not None:
            image = _jpeg(image, encoding.quality)
        out[index] = image
    return out


def _jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    if image.shape[-1] not in (1, 3):
        parts = [_jpeg(image[..., k : k + 1], quality) for k in range(image.shape[-1])]
        return np.concatenate(parts, -1)
    from PIL import Image

    plain = np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image)
    buffer = io.BytesIO()
    Image.fromarray(plain).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as stored:
        return np.asarray(stored, dtype=np.uint8).reshape(image.shape)
