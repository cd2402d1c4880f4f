"""The model inside an uploaded archive, told by names and first bytes; nothing is opened."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from modelward.data.archive import Archive
from modelward.data.directory import Entry
from modelward.data.labels import some
from modelward.data.names import extension, is_litter
from modelward.domain import InvalidInputError

__all__ = ["FoundModel", "ModelKind", "UnpackedModel", "extract_model", "find_model", "model_in"]

_SERVED = (".h5", ".hdf5", ".keras")
_PICKLES = (".pkl", ".pickle", ".joblib")
_KERAS_PARTS = frozenset({"config.json", "metadata.json", "model.weights.h5"})
_BASE_MODELS = ("base_model.py", "base_model.pyc")
_SAVED_MODEL = "saved_model.pb"
_UNSUPPORTED = {
    ".onnx": "an ONNX model",
    ".pb": "a TensorFlow graph that is no SavedModel",
    ".pt": "a PyTorch model",
    ".pth": "a PyTorch model",
    ".tflite": "a TensorFlow Lite model",
    ".safetensors": "safetensors weights",
}


class ModelKind(StrEnum):
    """What a model archive holds."""

    KERAS = "keras"
    SAVED_MODEL = "saved_model"
    BASE_MODEL = "base_model"
    PICKLE = "pickle"


@dataclass(frozen=True)
class FoundModel:
    """The model of an archive."""

    kind: ModelKind
    entry: Entry | None
    """The file that tells; None where the archive itself is a .keras file."""
    magic: bytes = b""
    """First four bytes of a compiled base_model.pyc; they name its Python version."""

    @property
    def carries_code(self) -> bool:
        """Whether it may be loaded in a sandbox only."""
        return self.kind is not ModelKind.KERAS

    @property
    def root(self) -> str:
        """Folder of the deciding file; the empty text at the top of the archive."""
        parent = str(PurePosixPath(self.entry.name).parent) if self.entry else "."
        return "" if parent == "." else parent


@dataclass(frozen=True)
class UnpackedModel:
    """A model's files on disk."""

    found: FoundModel
    path: Path
    """The file of a Keras model; for others the folder with everything that belongs to it."""
    inside: str
    """Where in that folder the model is: its own folder, or the file of a pickled model."""


def find_model(archive: Archive, *, base_model: bool = False) -> FoundModel:
    """Find the one model.

    Args:
        archive: The uploaded archive.
        base_model: Whether ``encryption_strategy: 1`` announces a ``base_model.pyc``.

    Raises:
        InvalidInputError: No model or several, weights without a model, or a format that is not
            supported yet.
    """
    files = [entry for entry in archive.listing.files if not is_litter(entry.name)]
    if base_model:
        return _find_base_model(archive, files)
    if {entry.name for entry in files} >= _KERAS_PARTS:
        return FoundModel(ModelKind.KERAS, None)
    models = [entry for entry in files if extension(entry.name) in _SERVED]
    whole = [entry for entry in models if not entry.name.lower().endswith(".weights.h5")]
    trees = _named(files, _SAVED_MODEL)
    pickles = [entry for entry in files if extension(entry.name) in _PICKLES]
    for kind, entries in (
        (ModelKind.KERAS, whole),
        (ModelKind.SAVED_MODEL, trees),
        (ModelKind.PICKLE, [] if models else pickles),
    ):
        if len(entries) > 1:
            raise _unexpected(some(entry.name for entry in entries))
        if entries:
            return FoundModel(kind, entries[0])
    raise _unexpected(_description(files, models))


def _find_base_model(archive: Archive, files: Sequence[Entry]) -> FoundModel:
    """``base_model.py`` goes before a compiled one in the same folder, as in Python itself."""
    found = [entry for name in _BASE_MODELS for entry in _named(files, name)]
    folders = {PurePosixPath(entry.name).parent for entry in found}
    if len(folders) != 1:
        what = some(entry.name for entry in found or files)
        raise InvalidInputError(
            "model: expected one base_model.pyc (or base_model.py) in the archive, as "
            f"encryption_strategy 1 says; got {what}"
        )
    entry = found[0]
    magic = archive.read(entry, 4) if extension(entry.name) == ".pyc" else b""
    return FoundModel(ModelKind.BASE_MODEL, entry, magic)


def _named(files: Sequence[Entry], name: str) -> list[Entry]:
    return [entry for entry in files if PurePosixPath(entry.name).name == name]


def _description(files: Sequence[Entry], models: Sequence[Entry]) -> str:
    """What an archive without a usable model holds instead."""
    if models:
        names = some(entry.name for entry in models)
        return f"weights only ({names}); save the whole model with model.save()"
    for name in _BASE_MODELS:
        for entry in _named(files, name):
            return f"{entry.name!r}, which encryption_strategy 1 is for; send that parameter"
    for entry in files:
        what = _UNSUPPORTED.get(extension(entry.name))
        if what:
            return f"{what} ({entry.name!r}), which is not supported yet"
    return some(entry.name for entry in files)


def _unexpected(found: str) -> InvalidInputError:
    return InvalidInputError(
        "model: expected one .h5 or .keras file, one SavedModel folder or one pickled model in the "
        f"archive; got {found}"
    )


def model_in(model_zip: Path, *, base_model: bool = False) -> FoundModel:
    """``find_model`` in a file.

    Raises:
        InvalidInputError: No usable archive, or no single model in it.
    """
    with Archive(model_zip) as archive:
        return find_model(archive, base_model=base_model)


def extract_model(model_zip: Path, dest: Path, *, base_model: bool = False) -> UnpackedModel:
    """Unpack the one model of an archive.

    Of a Keras model or a pickled one, its file is written; of a SavedModel, its folder; beside
    ``base_model``, everything, because its weights may have any name.

    Args:
        model_zip: The uploaded archive.
        dest: An existing folder.
        base_model: Whether ``encryption_strategy: 1`` announces a ``base_model.pyc``.

    Raises:
        InvalidInputError: No usable archive, or no single model in it.
    """
    with Archive(model_zip) as archive:
        found = find_model(archive, base_model=base_model)
        entry = found.entry
        if entry is None:
            path = dest / "model.keras"
            shutil.copyfile(model_zip, path)
            return UnpackedModel(found, path, "")
        suffix = PurePosixPath(entry.name).suffix.lower()
        if found.kind is ModelKind.KERAS:
            path = dest / ("model.keras" if suffix == ".keras" else "model.h5")
            _write(archive, entry, path)
            return UnpackedModel(found, path, "")
        if found.kind is ModelKind.PICKLE:
            _write(archive, entry, dest / f"model{suffix}")
            return UnpackedModel(found, dest, f"model{suffix}")
        root = found.root if found.kind is ModelKind.SAVED_MODEL else ""
        _write_tree(archive, root, dest)
        return UnpackedModel(found, dest, found.root.removeprefix(root))


def _write_tree(archive: Archive, root: str, dest: Path) -> None:
    prefix = f"{root}/" if root else ""
    for entry in archive.listing.files:
        if entry.name.startswith(prefix) and not is_litter(entry.name):
            path = dest / entry.name.removeprefix(prefix)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(archive, entry, path)
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                raise InvalidInputError(
                    f"model: expected {entry.name!r} to be a file or a folder; the archive holds "
                    "both under one name"
                ) from None


def _write(archive: Archive, entry: Entry, path: Path) -> None:
    with path.open("wb") as file:
        for part in archive.stream(entry):
            file.write(part)
