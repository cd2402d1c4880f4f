"""Which formats are data and which are code, for those who decide where a model may be opened."""

import re
import zipfile
from pathlib import Path
from typing import Literal, NamedTuple

from modelward.scan.blob import Blob
from modelward.scan.limits import Budget, Limits
from modelward.scan.lookalike import is_pickle_text
from modelward.scan.sniff import sniff

__all__ = ["ModelKind", "model_kind"]

_DATA = {
    "hdf5": "keras_h5",
    "onnx": "onnx",
    "safetensors": "safetensors",
    "gguf": "gguf",
    "tflite": "tflite",
    "xgboost_ubj": "xgboost_ubj",
    "json": "json",
    "xml": "xml",
}
_CODE = {
    "pickle": "pickle",
    "pyc": "pyc",
    "source": "source",
    "savedmodel": "savedmodel",
    "graphdef": "savedmodel",
    "native": "native",
    # what joblib writes with compression: a pickle inside
    "gzip": "joblib",
    "bzip2": "joblib",
    "xz": "joblib",
    "lzma": "joblib",
    "zlib": "joblib",
    "lz4": "joblib",
}


class ModelKind(NamedTuple):
    """What opening a model amounts to."""

    kind: Literal["data", "code", "unknown"]
    """``data``: loading it runs no code from the file, once the scan found nothing. ``code``:
    loading it runs code; only in the sandbox. ``unknown``: not to be opened at all."""
    format: str
    """keras_h5, keras_zip, onnx, safetensors, pickle, joblib, torch, torchscript, savedmodel,
    pyc, source, npy, npz, tensorflow trees included; ``unknown`` where nothing fits."""


def model_kind(path: Path) -> ModelKind:
    """Tell by content whether opening a model file or folder means running code.

    Nothing is loaded. It is no scan: a Keras file with a Lambda layer is ``data`` here, and
    ``scan_path`` is what refuses it.

    Args:
        path: A model file, or the folder of a SavedModel.

    Returns:
        The kind and the detected format.
    """
    if path.is_dir():
        tree = (path / "saved_model.pb").is_file() or (path / "saved_model.pbtxt").is_file()
        return ModelKind("code", "savedmodel") if tree else ModelKind("unknown", "unknown")
    with path.open("rb") as file:
        blob = Blob.of_file(file)
        found = sniff(blob, path.name)
        if found in ("text", "unknown") and is_pickle_text(blob, Budget(Limits())):
            found = "pickle"
        if found == "npy":
            head = blob.read(0, 4096)
            objects = re.search(rb"['\"][<>=|]?O\d*['\"]", head)
            return ModelKind("code" if objects else "data", "npy")
        if found == "pickle":
            return ModelKind("code", _pickle_format(blob, path.name))
    if found == "zip":
        return _of_zip(path)
    if found in _CODE:
        return ModelKind("code", _CODE[found])
    return ModelKind("data", _DATA[found]) if found in _DATA else ModelKind("unknown", found)


def _pickle_format(blob: Blob, name: str) -> str:
    head = blob.read(0, 64)
    if b"\x19\x50\xa8\x6a\x20\xf9\x46\x9c\xfc\x6c"[::-1] in head:
        return "torch"
    joblib = b"joblib.numpy_pickle" in blob.read(0, 2**20)
    return "joblib" if joblib or name.lower().endswith(".joblib") else "pickle"


def _of_zip(path: Path) -> ModelKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return ModelKind("unknown", "zip")
    members = {name.rsplit("/", 1)[-1] for name in names}
    if {"config.json", "model.weights.h5"} <= set(names):
        return ModelKind("data", "keras_zip")
    if "data.pkl" in members:
        script = any("/code/" in name for name in names)
        return ModelKind("code", "torchscript" if script else "torch")
    if names and all(name.endswith(".npy") for name in names):
        return ModelKind("code", "npz")  # an array of objects in it is a pickle
    return ModelKind("unknown", "zip")
