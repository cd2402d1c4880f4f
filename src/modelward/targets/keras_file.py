"""Keras model files: looked through first, loaded second."""

import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import IO, Any

from modelward.domain import AssessmentError
from modelward.scan import (
    MAX_CONFIG_BYTES,
    MAX_HDF5_BYTES,
    check_config,
    check_hdf5,
    parse_config,
)

__all__ = ["open_model"]

HDF5_ALLOWANCE = 100 * 2**20
MAX_RATIO = 200


def open_model(path: Path) -> Any:
    """Check a .h5 or .keras file and load it on the torch backend.

    The content decides which of the two it is, not the name.

    Returns:
        The keras.Model, not compiled.

    Raises:
        AssessmentError: No Keras model, weights only, or a model with parts that are refused.
    """
    import h5py

    if h5py.is_hdf5(path):
        return _open_h5(path)
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"PK\x03\x04":
        return _open_keras(path)
    raise AssessmentError(
        "model: expected a Keras model (.h5 or .keras); got a file that is neither HDF5 nor zip; "
        "save the model with model.save()"
    )


def _open_h5(path: Path) -> Any:
    import h5py

    with _reading(), h5py.File(path, "r") as file:
        check_hdf5(file, path.stat().st_size)
        raw = file.attrs.get("model_config")
    if raw is None:
        raise AssessmentError(
            "model: expected a whole Keras model; got an HDF5 file without model_config "
            "(weights only); save the whole model with model.save()"
        )
    if not isinstance(raw, str | bytes):
        raise AssessmentError("model: expected model_config to be text; got something else")
    check_config(parse_config(raw))
    keras = _keras()
    if path.suffix in (".h5", ".hdf5"):
        with _loading():
            return keras.models.load_model(path, compile=False, safe_mode=True)
    with tempfile.TemporaryDirectory() as folder, _loading():
        link = Path(folder, "model.h5")  # Keras goes by the name
        link.symlink_to(path.resolve())
        return keras.models.load_model(link, compile=False, safe_mode=True)


def _open_keras(path: Path) -> Any:
    """Build from the checked configuration and load the checked weights.

    Not ``load_model``: what is checked here is the very text and the very bytes that are used.
    """
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "model.weights.h5")
        with _unzipping(), zipfile.ZipFile(path) as archive:
            with _member(archive, "config.json", MAX_CONFIG_BYTES) as source:
                config = parse_config(source.read())
            check_config(config)
            with (
                _member(archive, "model.weights.h5", MAX_HDF5_BYTES) as source,
                weights.open("wb") as copy,
            ):
                shutil.copyfileobj(source, copy)
        if not h5py.is_hdf5(weights):
            raise AssessmentError("model: expected HDF5 weights in the .keras file; got none")
        with _reading(), h5py.File(weights, "r") as file:
            check_hdf5(file, weights.stat().st_size)
        keras = _keras()
        with _loading():
            model = keras.saving.deserialize_keras_object(_translated(config), safe_mode=True)
            model.load_weights(weights)
            return model


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> IO[bytes]:
    """Open a member that is not too large; its declared size bounds what can be read."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise AssessmentError(
            f"model: expected a .keras file with {name}; got a zip archive without it"
        ) from None
    if info.file_size > min(limit, HDF5_ALLOWANCE + MAX_RATIO * info.compress_size):
        raise AssessmentError(
            f"model: expected {name} to have at most {limit} bytes and a compression ratio of at "
            f"most {MAX_RATIO}; got {info.file_size} bytes from {info.compress_size}"
        )
    return archive.open(info)


def _translated(value: Any) -> Any:
    """The Keras 3 spelling of what Keras 2 writes into .keras files."""
    if isinstance(value, list):
        return [_translated(item) for item in value]
    if not isinstance(value, dict):
        return value
    node = {key: _translated(item) for key, item in value.items() if key != "compile_config"}
    module = node.get("module")
    if isinstance(module, str) and "class_name" in node:
        if node["class_name"] in ("Functional", "Model"):
            node.update(module="keras.src.models.functional", class_name="Functional")
        elif node["class_name"] == "Sequential":
            node["module"] = "keras"
        else:
            node["module"] = module.removeprefix("tensorflow.").replace("tf_keras", "keras", 1)
    inner = node.get("config")
    if not isinstance(inner, dict):
        return node
    if node.get("class_name") != "InputLayer":
        inner.pop("batch_input_shape", None)  # the model has an InputLayer, too
    if node.get("class_name") == "BatchNormalization":
        axis = inner.get("axis")
        inner["axis"] = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    return node


def _keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    return keras


class _reading:
    """Turns any failure of the HDF5 library into one message."""

    text = "model: expected a readable HDF5 file"

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, AssessmentError):
            lines = str(error).strip().splitlines() or [type(error).__name__]
            # Keras wraps errors in whole configurations; the last of these lines is the cause
            causes = [line for line in lines if line.startswith("Exception encountered: ")]
            cause = causes[-1].partition(": ")[2] if causes else lines[0]
            raise AssessmentError(f"{self.text}; got the error: {cause[:300]}") from error


class _loading(_reading):
    """Turns any failure of Keras while loading into one message."""

    text = "model: expected a model that Keras 3 loads"


class _unzipping(_reading):
    """Turns any failure of the zip reader into one message."""

    text = "model: expected a readable .keras file"
