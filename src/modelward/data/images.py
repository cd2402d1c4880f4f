"""Uploaded images: checked by their headers in the service, decoded in the worker."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelward.data.archive import Archive
from modelward.data.directory import Entry
from modelward.data.headers import FORMATS, ImageHeader, read_header
from modelward.data.labels import LabelledImage, match_images, read_labels
from modelward.data.models import find_model
from modelward.data.names import is_litter
from modelward.domain import (
    AssessmentError,
    ImageExtractionConfig,
    InvalidInputError,
    ModelwardError,
    PayloadTooLargeError,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ImageSet", "check_image_extraction", "load_images"]

MAX_STACK_BYTES = 2 * 2**30
"""All images together, decoded."""
MAX_IMAGE_FILE_BYTES = 64 * 2**20
_HEAD_BYTES = (512, 64 * 2**10, 4 * 2**20)
"""A size stands in the first bytes, but for JPEG with long metadata."""
_SLOTS = ("data", "label", "model")


@dataclass(frozen=True)
class ImageSet:
    """The labelled images of a job, in the order of the label table."""

    images: "NDArray[np.uint8]"
    """(n, height, width, channels) uint8, 0 to 255, gray or RGB."""
    labels: "NDArray[np.int64]"
    """(n,) int64, 0 to classes - 1."""
    names: tuple[str, ...]
    """As the label table spells them."""
    unlabelled: int = 0
    """Images in the archive that the label table does not name; they are not loaded."""


def check_image_extraction(config: ImageExtractionConfig, archives: Mapping[str, Path]) -> int:
    """Check everything about the uploads that needs neither a decoder nor a model library.

    Takes about 50 microseconds per image; call it outside an event loop.

    Args:
        config: The parsed analysis payload.
        archives: Uploaded files by slot: data, label, model.

    Returns:
        How many labelled images there are.

    Raises:
        InvalidInputError: A slot is missing, or its content does not fit (400).
        PayloadTooLargeError: The images are more than can be assessed (413).
    """
    missing = [slot for slot in _SLOTS if slot not in archives]
    if missing:
        raise InvalidInputError(
            f"uploads: expected {', '.join(_SLOTS)}; missing {', '.join(missing)}; upload them and "
            "call the analysis again"
        )
    with (
        _open("data", archives["data"]) as data,
        _open("label", archives["label"]) as label,
        _open("model", archives["model"]) as model,
    ):
        find_model(model, base_model=config.encryption_strategy == 1)
        labels = read_labels(label, config.number_of_classes)
        matched = match_images(labels, data.listing.files)
        _check_stack(config, len(matched))
        for image in matched:
            _check_header(data, image.entry, config.input_shape)
        return len(matched)


def load_images(data_zip: Path, label_zip: Path, config: ImageExtractionConfig) -> ImageSet:
    """Decode the labelled images.

    Gray, RGB, palette, alpha (dropped), CMYK and 16-bit images become 8-bit gray or RGB, as
    ``input_dimensions`` says; of an animation the first frame counts.

    Raises:
        AssessmentError: An image does not decode (it is named), or anything that
            ``check_image_extraction`` would have refused.
    """
    import numpy as np

    height, width, channels = config.input_shape
    try:
        with _open("data", data_zip) as data, _open("label", label_zip) as label:
            labels = read_labels(label, config.number_of_classes)
            matched = match_images(labels, data.listing.files)
            _check_stack(config, len(matched))
            images = np.empty((len(matched), height, width, channels), np.uint8)
            for at, image in enumerate(matched):
                _check_header(data, image.entry, config.input_shape)
                images[at] = _decode(data, image.entry, config.input_shape)
            return ImageSet(
                images=images,
                labels=np.array([image.label for image in matched], np.int64),
                names=tuple(image.name for image in matched),
                unlabelled=_unlabelled(data, matched),
            )
    except AssessmentError:
        raise
    except ModelwardError as error:
        raise AssessmentError(error.message) from error


def _open(slot: str, path: Path) -> Archive:
    try:
        return Archive(path)
    except ModelwardError as error:
        raise type(error)(f"{slot}: {error.message}") from None
    except OSError as error:
        raise InvalidInputError(
            f"{slot}: expected an uploaded file; got {error.strerror}"
        ) from None


def _unlabelled(data: Archive, matched: list[LabelledImage]) -> int:
    used = {image.entry.name for image in matched}
    suffixes = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
    return sum(
        entry.name.lower().endswith(suffixes)
        and entry.name not in used
        and not is_litter(entry.name)
        for entry in data.listing.files
    )


def _check_stack(config: ImageExtractionConfig, count: int) -> None:
    height, width, channels = config.input_shape
    total = count * height * width * channels
    if total > MAX_STACK_BYTES:
        raise PayloadTooLargeError(
            f"data: expected at most {MAX_STACK_BYTES} bytes of pixels; got {total} ({count} "
            f"images of {height} x {width} x {channels}); upload fewer images"
        )


def _header(data: Archive, entry: Entry) -> ImageHeader:
    if entry.size > MAX_IMAGE_FILE_BYTES:
        raise PayloadTooLargeError(
            f"data: expected image files of at most {MAX_IMAGE_FILE_BYTES} bytes; got {entry.size} "
            f"in {entry.name!r}"
        )
    found = "a file without a readable size"
    for limit in _HEAD_BYTES:
        try:
            header = read_header(data.read(entry, limit))
        except ValueError as error:
            found = str(error)
            break
        if header:
            return header
        if limit >= entry.size:
            break
    raise InvalidInputError(
        f"data: expected {entry.name!r} to be an image ({', '.join(FORMATS)}); got {found}"
    )


def _check_header(data: Archive, entry: Entry, shape: tuple[int, int, int]) -> None:
    header = _header(data, entry)
    if (header.height, header.width) != shape[:2]:
        raise InvalidInputError(
            f"data: expected images of {shape[0]} x {shape[1]} (height x width), as "
            f"input_dimensions says; got {header.height} x {header.width} in {entry.name!r}; "
            "resize the images or correct input_dimensions"
        )


def _decode(data: Archive, entry: Entry, shape: tuple[int, int, int]) -> "NDArray[np.uint8]":
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data.read(entry, entry.size)), formats=FORMATS) as image:
            if image.size != (shape[1], shape[0]):  # before any pixel is unpacked
                raise ValueError(f"its size is {image.size[1]} x {image.size[0]}")
            return _pixels(image, shape[2])
    except ModelwardError:
        raise
    except Exception as error:  # decoders fail in many ways; each means the same here
        raise AssessmentError(
            f"data: expected {entry.name!r} to decode as an image; got {error}; replace the image"
        ) from error


def _pixels(image: Any, channels: int) -> "NDArray[np.uint8]":
    import numpy as np
    from PIL import Image

    if image.mode.startswith(("I", "F")):  # 16 bits: keep the high byte
        wide = np.asarray(image).astype(np.float64)
        image = Image.fromarray(np.clip(wide / 257.0 + 0.5, 0, 255).astype(np.uint8))
    if image.mode in ("P", "PA") and channels == 1:
        image = image.convert("RGB")
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"), np.uint8)
    return pixels[..., None] if channels == 1 else pixels
