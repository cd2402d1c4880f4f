"""The program inside the sandbox: loads one model and answers batches of arrays.

One self-contained file (standard library and numpy, Python 3.8 or newer) that runs under the
interpreter the model needs. It is on the model's side of the wall: whatever it sends may be the
model's doing, and the other side checks every byte. Frames are described in ``frames.py``.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import struct
import sys
from typing import Any, Callable, Dict, Tuple  # noqa: UP035 - for Python 3.8

HEADER = struct.Struct("<4sBBBxI4IQ")
MAGIC = b"MWSB"
TEXT, ARRAY, ERROR = 1, 2, 3
DTYPES = {1: "<f4", 2: "<i8", 3: "<f8"}
MOST_TEXT = 60_000
MOST_ERROR = 2_000

Config = Dict[str, Any]  # noqa: UP006 - for Python 3.8
Loaded = Tuple[Callable[[Any], Any], Dict[str, Any]]  # noqa: UP006


def main() -> None:
    """Load the model that the first frame describes, then answer until the input ends."""
    # Frames get descriptors of their own: what a model prints must not end up among them.
    incoming, outgoing = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    config = json.loads(_receive(incoming)[1])
    # Counts only what runs in here, and cannot be raised again.
    most = config["processes"]
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    try:
        answer, hello = LOADERS[config["kind"]](config)
        _send(outgoing, TEXT, 0, json.dumps(hello).encode()[:MOST_TEXT])
    except BaseException as error:
        _send_error(outgoing, 0, error)
        return
    while True:
        frame = _receive(incoming)
        if frame is None:
            return
        number, batch = frame
        try:
            _send(outgoing, ARRAY, number, *_plain(answer(batch)))
        except BaseException as error:
            _send_error(outgoing, number, error)


def _receive(source: int) -> Any:
    head = _read(source, HEADER.size)
    if head is None:
        return None
    _, kind, code, rank, number, *rest = HEADER.unpack(head)
    content: Any = _read(source, rest[4]) if rest[4] else b""
    if kind == TEXT:
        return number, content
    import numpy

    return number, numpy.frombuffer(content, DTYPES[code]).reshape(rest[:rank])


def _read(source: int, size: int) -> bytearray | None:
    content = bytearray()
    while len(content) < size:
        part = os.read(source, min(size - len(content), 1 << 20))
        if not part:
            return None
        content += part
    return content


def _send(target: int, kind: int, number: int, content: Any, code: int = 0) -> None:
    shape = content.shape if kind == ARRAY else ()
    content = content.tobytes() if kind == ARRAY else content
    sides = (*shape, 0, 0, 0, 0)[:4]
    head = HEADER.pack(MAGIC, kind, code, len(shape), number, *sides, len(content))
    rest = memoryview(head + content)
    while rest:
        rest = rest[os.write(target, rest) :]


def _send_error(target: int, number: int, error: BaseException) -> None:
    text = f"{type(error).__name__}: {error}"
    _send(target, ERROR, number, text.encode("utf-8", "replace")[:MOST_ERROR])


def _plain(values: Any) -> tuple[Any, int]:
    """Numbers as float32, float64 or int64 in C order, with the code of that type."""
    import numpy

    if hasattr(values, "detach"):
        values = values.detach().cpu()
    values = numpy.asarray(values)
    if values.dtype.kind in "bui":
        return numpy.ascontiguousarray(values, "<i8"), 2
    if values.dtype.kind != "f":
        raise TypeError(f"expected numbers as predictions; got values of type {values.dtype}")
    if not 1 <= values.ndim <= 4:
        raise TypeError(f"expected predictions with 1 to 4 axes; got {values.ndim}")
    code = 3 if values.dtype == numpy.float64 else 1
    return numpy.ascontiguousarray(values, DTYPES[code]), code


def _load_nothing(config: Config) -> Loaded:
    """For the probe: what a model would see of the machine."""
    import socket

    proc = os.path.isdir("/proc/self")
    interfaces = []
    for number in range(1, 65):
        try:
            interfaces.append(socket.if_indextoname(number))
        except OSError:
            continue
    seen = {
        "uid": os.getuid(),
        "interfaces": interfaces,
        "processes": [name for name in os.listdir("/proc") if name.isdigit()] if proc else [],
        "folders": sorted(os.listdir("/")),
        "etc": sorted(os.listdir("/etc")) if os.path.isdir("/etc") else [],
    }
    return (lambda batch: batch), seen


def _load_base_model(config: Config) -> Loaded:
    """``base_model``, class ``BaseModel``, method ``predict``; files are named from its folder."""
    module = None
    for place in config["folders"]:
        os.chdir(place)
        try:
            if module is None:
                sys.path.insert(0, config["folders"][0])
                module = importlib.import_module("base_model")
            model = module.BaseModel()
            break
        except (OSError, ValueError):
            # names of files may count from the top of the archive instead
            if place == config["folders"][-1]:
                raise
    return model.predict, {"framework": "base_model, " + _python()}


def _load_saved_model(config: Config) -> Loaded:
    import numpy
    import tensorflow

    loaded = tensorflow.saved_model.load(config["folders"][0])
    names = sorted(loaded.signatures)
    if "serving_default" not in names:
        raise ValueError(f"expected a signature serving_default; got {names or 'none'}")
    function = loaded.signatures["serving_default"]
    inputs = function.structured_input_signature[1]
    if len(inputs) != 1:
        raise ValueError(f"expected one input in serving_default; got {sorted(inputs)}")
    ((name, taken),) = inputs.items()
    if taken.dtype.name not in ("float32", "float64", "float16", "bfloat16", "uint8", "int32"):
        raise ValueError(f"expected an input of numbers; got {taken.dtype.name}")
    shape = taken.shape.as_list() if taken.shape.rank is not None else None
    output, note = _output(function.structured_outputs, config["classes"])
    fixed = shape[0] if shape else None

    def ask(batch: Any) -> Any:
        given = tensorflow.cast(tensorflow.convert_to_tensor(batch), taken.dtype)
        answer = function(**{name: given})[output]
        if answer.dtype.is_floating:  # bfloat16 is nothing that numpy knows
            answer = tensorflow.cast(answer, tensorflow.float32)
        return answer.numpy()

    def answer(batch: Any) -> Any:
        if not fixed:
            return ask(batch)
        parts = []
        for start in range(0, len(batch), fixed):  # exported for batches of one size only
            part = batch[start : start + fixed]
            padded = numpy.zeros((fixed, *batch.shape[1:]), batch.dtype)
            padded[: len(part)] = part
            parts.append(ask(padded)[: len(part)])
        return numpy.concatenate(parts)

    hello = {
        "framework": f"TensorFlow {tensorflow.__version__} SavedModel",
        "input": shape[1:] if shape else None,
        "notes": [note] if note else [],
    }
    return answer, hello


def _output(outputs: Any, classes: int) -> tuple[str, str | None]:
    """The output that holds one number per class; with a note where there was a choice."""
    shapes = {name: tuple(spec.shape) if spec.shape.rank is not None else None
              for name, spec in outputs.items()}  # fmt: skip
    if len(shapes) == 1:
        return next(iter(shapes)), None
    fitting = [
        name
        for name, shape in shapes.items()
        if shape and len(shape) == 2 and shape[1] == classes and outputs[name].dtype.is_floating
    ]
    if len(fitting) != 1:
        raise ValueError(
            f"expected one output, or one of several with {classes} numbers per image; got "
            + ", ".join(f"{name!r} of {shape}" for name, shape in sorted(shapes.items()))
            + "; export a signature serving_default with the probabilities only"
        )
    return fitting[0], f"Of the outputs {sorted(shapes)}, {fitting[0]!r} was taken."


def _load_pickle(config: Config) -> Loaded:
    model, library = _unpickled(config["file"])
    while hasattr(model, "best_estimator_"):
        model = model.best_estimator_
    if type(model).__name__ == "Booster" and type(model).__module__.startswith("xgboost"):
        import xgboost

        count = model.num_features()
        return (lambda batch: model.predict(xgboost.DMatrix(batch))), {
            "framework": f"xgboost {xgboost.__version__} Booster",
            "input": [count] if count else None,
        }
    ask = getattr(model, "predict_proba", None)
    if ask is None:
        ask = getattr(model, "predict", None)
    if ask is None:
        raise TypeError(f"expected a model with predict; got {type(model).__name__}")
    count = getattr(model, "n_features_in_", None)
    hello: Config = {"framework": library, "input": [int(count)] if count else None}
    known = getattr(model, "classes_", None)
    if known is not None and not isinstance(known, list):
        if [str(name) for name in known] != [str(number) for number in range(len(known))]:
            raise ValueError(
                "expected a model trained on class numbers 0, 1, 2, ...; got the classes "
                f"{[str(name) for name in known][:10]}"
            )
        hello["classes"] = len(known)
    return ask, hello


def _unpickled(path: str) -> tuple[Any, str]:
    try:
        import joblib
    except ImportError:
        import pickle

        with open(path, "rb") as file:
            model = pickle.load(file)  # noqa: S301 - this is what the sandbox is for
    else:
        model = joblib.load(path)
    package = type(model).__module__.partition(".")[0]
    version = getattr(sys.modules.get(package), "__version__", "")
    return model, f"{package} {version} {type(model).__name__}".replace("  ", " ")


def _python() -> str:
    return "Python " + ".".join(map(str, sys.version_info[:3]))


LOADERS = {
    "probe": _load_nothing,
    "base_model": _load_base_model,
    "saved_model": _load_saved_model,
    "pickle": _load_pickle,
}

if __name__ == "__main__":
    main()
    sys.stderr.flush()
    os._exit(0)
