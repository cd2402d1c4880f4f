"""Readers for uploaded archives; whatever comes in is checked before it is used."""

from modelward.data.archive import ArchiveListing, inspect_archive
from modelward.data.directory import Entry
from modelward.data.images import ImageSet, check_image_extraction, load_images
from modelward.data.models import (
    FoundModel,
    ModelKind,
    UnpackedModel,
    extract_model,
    model_in,
)
from modelward.data.names import is_litter

__all__ = [
    "ArchiveListing",
    "Entry",
    "FoundModel",
    "ImageSet",
    "ModelKind",
    "UnpackedModel",
    "check_image_extraction",
    "extract_model",
    "inspect_archive",
    "is_litter",
    "load_images",
    "model_in",
]
