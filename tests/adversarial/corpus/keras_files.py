"""Keras models that name code, files or addresses, in both formats and both dialects."""

import base64
import json
import marshal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from corpus.canary import Canary
from corpus.writing import Builder

DENSE: dict[str, Any] = {"name": "out", "units": 2, "activation": "linear"}


def keras3(*layers: dict[str, Any]) -> dict[str, Any]:
    """A Sequential configuration as Keras 3 writes it."""
    return {
        "module": "keras", "class_name": "Sequential", "registered_name": None,
        "config": {"name": "model", "trainable": True, "layers": list(layers)},
    }  # fmt: skip


def keras2(*layers: dict[str, Any]) -> dict[str, Any]:
    """A Sequential configuration as Keras 2 writes it."""
    return {"class_name": "Sequential", "config": {"name": "model", "layers": list(layers)}}


def layer(name: str, config: dict[str, Any], module: str = "keras.layers") -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def bytecode(canary: Canary) -> str:
    code = compile(f"lambda x: {canary.python}", "<model>", "eval")
    return base64.b64encode(marshal.dumps(code.co_consts[0])).decode()


def lambda3(canary: Canary) -> dict[str, Any]:
    function = {
        "class_name": "__lambda__",
        "config": {"code": bytecode(canary), "defaults": None, "closure": None},
    }
    return keras3(layer("Lambda", {"name": "l", "function": function}))


def lambda2(canary: Canary) -> dict[str, Any]:
    config = {"name": "l", "function": [bytecode(canary), None, None], "function_type": "lambda"}
    return keras2({"class_name": "Lambda", "config": config})


def named2(canary: Canary) -> dict[str, Any]:
    config = {"name": "l", "function": "system", "module": "os", "function_type": "function"}
    return keras2({"class_name": "Lambda", "config": config})


def activation(value: object) -> Callable[[Canary], dict[str, Any]]:
    return lambda canary: keras3(layer("Dense", {**DENSE, "activation": value}))


def function(module: str, name: str) -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def get_file(canary: Canary) -> dict[str, Any]:
    node = layer("get_file", {"origin": f"http://127.0.0.1:{canary.port}/x"}, "keras.utils")
    return keras3(layer("Dense", {**DENSE, "kernel_initializer": node}))


def vocabulary(canary: Canary) -> dict[str, Any]:
    del canary
    return keras3(layer("StringLookup", {"name": "s", "vocabulary": "/etc/passwd"}))


def address(canary: Canary) -> dict[str, Any]:
    url = f"http://127.0.0.1:{canary.port}/words"
    return keras3(layer("TextVectorization", {"name": "t", "vocabulary": url}))


def wrapper(canary: Canary) -> dict[str, Any]:
    module = base64.b64encode(f"cbuiltins\neval\n(V{canary.python}\ntR.".encode()).decode()
    return keras3(layer("TorchModuleWrapper", {"name": "t", "module": module}))


def compiled(canary: Canary) -> dict[str, Any]:
    del canary
    config = keras3(layer("Dense", DENSE))
    config["compile_config"] = {"optimizer": "adam", "loss": function("os", "system")}
    return config


def inner_model(canary: Canary) -> dict[str, Any]:
    return keras3(keras3(keras3(layer("Dense", DENSE)), lambda3(canary)["config"]["layers"][0]))


CONFIGS: dict[str, Callable[[Canary], dict[str, Any]]] = {
    "lambda3": lambda3,
    "lambda2": lambda2,
    "lambda-names-function": named2,
    "lambda-as-activation": lambda c: activation(
        {"class_name": "__lambda__", "config": {"value": bytecode(c)}}
    )(c),
    "function-os": activation(function("os", "system")),
    "function-eval": activation(function("builtins", "eval")),
    "unsafe-switch": activation(function("keras.config", "enable_unsafe_deserialization")),
    "get-file": get_file,
    "class-elsewhere": lambda c: keras3(layer("Popen", {"args": c.shell}, "subprocess")),
    "registered-name": lambda c: keras3({**layer("Dense", DENSE), "registered_name": "evil>Dense"}),
    "custom-layer": lambda c: keras3(layer("MyLayer", {"name": "m"})),
    "vocabulary-file": vocabulary,
    "vocabulary-address": address,
    "torch-module": wrapper,
    "savedmodel-layer": lambda c: keras3(layer("TFSMLayer", {"filepath": str(c.file)})),
    "loss": compiled,
    "inner-model": inner_model,
    "huge": lambda c: keras3(layer("Dense", {**DENSE, "units": 10**12})),
}


def weights(file: Path) -> None:
    with h5py.File(file, "w") as target:
        target.create_dataset("layers/dense/vars/0", data=np.ones((2, 2), "f4"))


def as_keras(folder: Path, config: dict[str, Any]) -> Path:
    weights(folder / "w.h5")
    file = folder / "model.keras"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.9.0"}))
        archive.write(folder / "w.h5", "model.weights.h5")
    (folder / "w.h5").unlink()
    return file


def as_h5(folder: Path, config: dict[str, Any]) -> Path:
    file = folder / "model.h5"
    weights(file)
    with h5py.File(file, "r+") as target:
        target.attrs["model_config"] = json.dumps(config)
    return file


def external_link(folder: Path, canary: Canary) -> Path:
    file = as_h5(folder, keras3(layer("Dense", DENSE)))
    with h5py.File(file, "r+") as target:
        target["leak"] = h5py.ExternalLink(str(canary.file), "/x")
    return file


def external_storage(folder: Path, canary: Canary) -> Path:
    file = as_h5(folder, keras3(layer("Dense", DENSE)))
    with h5py.File(file, "r+") as target:
        target.create_dataset("leak", (4,), "u1", external=[("/etc/hostname", 0, 4)])
    return file


def virtual(folder: Path, canary: Canary) -> Path:
    file = as_h5(folder, keras3(layer("Dense", DENSE)))
    with h5py.File(file, "r+") as target:
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource(str(canary.file), "x", (4,))
        target.create_virtual_dataset("leak", layout)
    return file


def in_front(folder: Path, canary: Canary) -> Path:
    """HDF5 allows a block of foreign bytes in front; here it is a pickle."""
    file = folder / "model.h5"
    with h5py.File(file, "w", userblock_size=512) as target:
        target.create_dataset("x", data=np.ones(2))
    raw = bytearray(file.read_bytes())
    front = f"cbuiltins\neval\n(V{canary.python}\ntR.".encode()
    raw[: len(front)] = front
    file.write_bytes(raw)
    return file


def external_in_keras(folder: Path, canary: Canary) -> Path:
    config = keras3(layer("Dense", DENSE))
    file = as_keras(folder, config)
    external = external_storage(folder, canary)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.write(external, "model.weights.h5")
    external.unlink()
    return file


def _writer(
    save: Callable[[Path, dict[str, Any]], Path], make: Callable[[Canary], dict[str, Any]]
) -> Builder:
    return lambda folder, canary: save(folder, make(canary))


FILES: dict[str, Builder] = {
    **{f"keras-{name}": _writer(as_keras, make) for name, make in CONFIGS.items()},
    **{f"h5-{name}": _writer(as_h5, make) for name, make in CONFIGS.items()},
    "h5-external-link": external_link,
    "h5-external-storage": external_storage,
    "h5-virtual": virtual,
    "h5-pickle-in-front": in_front,
    "keras-external-storage": external_in_keras,
}
