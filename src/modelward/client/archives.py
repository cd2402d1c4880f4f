"""Makes upload archives; equal input gives byte-equal archives."""

import zipfile
from pathlib import Path, PurePosixPath

from modelward.domain import InvalidInputError

__all__ = ["IMAGE_SUFFIXES", "as_zip", "is_image_name"]

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"},
)
_MODEL_FILES = frozenset({"saved_model.pb", "base_model.py", "base_model.pyc"})
# Zip stores local time without a zone and cannot go below 1980; a fixed stamp keeps archives equal.
_STAMP = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20


def is_image_name(name: str) -> bool:
    """Whether a file name looks like an image that is meant to be used.

    Hidden files and what macOS puts beside files (``__MACOSX``) are not.
    """
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def as_zip(slot: str, source: Path, folder: Path) -> Path:
    """Return an archive with the content of ``source``, made in ``folder`` where needed.

    Args:
        slot: ``data`` takes the images of a folder, ``model`` a SavedModel folder or one with
            ``base_model``; every other slot takes one file.
        source: Zip (returned as it is), folder or file.
        folder: Where a new archive is written.

    Raises:
        InvalidInputError: There is nothing to pack.
    """
    if source.is_file() and source.suffix.lower() == ".zip":
        if not zipfile.is_zipfile(source):
            raise InvalidInputError(f"{slot}: expected a zip archive, {source} is none")
        return source
    if source.is_dir():
        entries = _images(source) if slot == "data" else _model_folder(slot, source)
    elif source.is_file():
        entries = [(source.name, source)]
    else:
        raise InvalidInputError(f"{slot}: expected a file, a folder or a zip; {source} is missing")
    target = folder / f"{slot}.zip"
    with zipfile.ZipFile(target, "w", allowZip64=True) as archive:
        for name, path in entries:
            _add(archive, name, path)
    return target


def _model_folder(slot: str, folder: Path) -> list[tuple[str, Path]]:
    """Everything of a model that is a folder."""
    found = sorted(
        (path.relative_to(folder).as_posix(), path)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    if slot != "model":
        raise InvalidInputError(
            f"{slot}: expected a csv with the columns image,label, or a zip with one; {folder} is "
            "a folder"
        )
    if not {path.name for _, path in found} & _MODEL_FILES:
        names = ", ".join(sorted(_MODEL_FILES))
        raise InvalidInputError(
            f"{slot}: expected a model file, a zip, or a folder with {names}; {folder} is a "
            "folder without"
        )
    return found


def _images(folder: Path) -> list[tuple[str, Path]]:
    found = sorted(
        (path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file()
    )
    images = [(name, path) for name, path in found if is_image_name(name)]
    if not images:
        raise InvalidInputError(
            f"data: expected images ({', '.join(sorted(IMAGE_SUFFIXES))}) in {folder}, "
            f"got {len(found)} other files"
        )
    return images


def _add(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    entry = zipfile.ZipInfo(name, date_time=_STAMP)
    entry.external_attr = 0o644 << 16
    # Image files are compressed already; deflating them again costs time and saves nothing.
    entry.compress_type = zipfile.ZIP_STORED if is_image_name(name) else zipfile.ZIP_DEFLATED
    entry.file_size = path.stat().st_size
    with path.open("rb") as source, archive.open(entry, "w") as target:
        while chunk := source.read(_CHUNK):
            target.write(chunk)
