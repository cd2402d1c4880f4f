"""Keras files made to run code, read other files or fill memory. A canary file tells."""

import base64
import io
import json
import marshal
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras

from modelward.domain import AssessmentError
from modelward.scan import check_config, parse_config
from modelward.targets import load_keras

L = keras.layers
SHAPE = (4, 3, 1)


def load(path: Path) -> None:
    load_keras(path, input_shape=SHAPE, classes=3, normalize_data=True, color_space=None)


@pytest.fixture
def honest(tmp_path: Path) -> Callable[[str], Path]:
    def make(suffix: str) -> Path:
        model = keras.Sequential(
            [
                keras.Input(SHAPE),
                L.Flatten(name="flat"),
                L.Dense(3, activation="softmax", name="out"),
            ]
        )
        path = tmp_path / f"honest{suffix}"
        model.save(path)
        return path

    return make


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change the configuration inside a model file."""
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            change(config)
            file.attrs["model_config"] = json.dumps(config)
        return path
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def layer(config: dict[str, Any], name: str) -> dict[str, Any]:
    return next(x for x in config["config"]["layers"] if x["config"].get("name") == name)


def canary_function(canary: Path) -> Callable[[Any], Any]:
    source = f"lambda x: (open({str(canary)!r}, 'w').close(), x)[1]"
    return eval(source)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_lambda_layers_do_not_run(tmp_path: Path, suffix: str):
    canary = tmp_path / "canary"
    steal = canary_function(canary)
    model = keras.Sequential(
        [keras.Input(SHAPE), L.Lambda(steal, output_shape=SHAPE, name="bad"), L.Flatten(),
         L.Dense(3)]
    )  # fmt: skip
    model.save(tmp_path / f"m{suffix}")
    canary.unlink(missing_ok=True)
    with pytest.raises(AssessmentError, match=r"got class 'Lambda' in layer 'bad'.*runs code"):
        load(tmp_path / f"m{suffix}")
    assert not canary.exists()


def test_lambda_by_hand(tmp_path: Path, honest: Callable[[str], Path]):
    canary = tmp_path / "canary"
    code = base64.b64encode(marshal.dumps(canary_function(canary).__code__)).decode()

    def change(config: dict[str, Any]) -> None:
        layer(config, "out")["config"]["activation"] = {
            "class_name": "__lambda__",
            "config": {"value": [code, None, None]},
        }

    for suffix in (".h5", ".keras"):
        with pytest.raises(AssessmentError, match=r"'__lambda__' in layer 'out'.*code in the file"):
            load(edit(honest(suffix), change))
    assert not canary.exists()


EVIL = [
    ({"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
     "module 'os'"),
    ({"module": "builtins", "class_name": "function", "config": "eval",
      "registered_name": "function"}, "function 'eval'"),
    ({"module": "keras.utils", "class_name": "function", "config": "get_file",
      "registered_name": "get_file"}, "function 'get_file'"),
    ({"module": "keras.activations", "class_name": "function", "config": "relu",
      "registered_name": "evil"}, "function 'evil'"),
    ({"module": "canary_module", "class_name": "Dense", "config": {}}, "module 'canary_module'"),
    ({"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {}}, "unpickles"),
    ({"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/x"}},
     "SavedModel"),
    ({"module": "keras.layers", "class_name": "StringLookup",
      "config": {"vocabulary": "/etc/passwd"}}, "class 'StringLookup'"),
    ({"module": "keras.layers", "class_name": "Dense", "registered_name": "Custom>Dense",
      "config": {}}, "class 'Custom>Dense'"),
    ({"module": None, "class_name": "MyLayer", "registered_name": "p>MyLayer", "config": {}},
     "class 'MyLayer'"),
    ({"class_name": ["Dense"], "config": {}}, "class name of type list"),
    ({"module": "keras..os", "class_name": "Dense", "config": {}}, "not part of Keras"),
    ("os.system", "activation 'os.system'"),
]  # fmt: skip


@pytest.mark.parametrize(("evil", "message"), EVIL, ids=[message for _, message in EVIL])
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_parts_that_are_not_standard(  # noqa: PLR0917
    tmp_path: Path, honest: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, suffix: str,
    evil: Any, message: str,
):  # fmt: skip
    canary = tmp_path / "canary"
    (tmp_path / "canary_module.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = edit(honest(suffix), lambda c: layer(c, "out")["config"].update(activation=evil))
    with pytest.raises(AssessmentError, match=f"standard Keras layers only; got .*{message}"):
        load(path)
    assert not canary.exists()


@pytest.mark.parametrize("place", ["kernel_initializer", "kernel_regularizer", "dtype", "extra"])
def test_every_corner_is_looked_at(honest: Callable[[str], Path], place: str):
    evil = {"deep": [{"class_name": "Evil", "module": "evil", "config": {}}]}
    path = edit(honest(".keras"), lambda c: layer(c, "out")["config"].update({place: evil}))
    with pytest.raises(AssessmentError, match="class 'Evil' of module 'evil' in layer 'out'"):
        load(path)


def test_the_model_class_itself(honest: Callable[[str], Path]):
    def change(config: dict[str, Any]) -> None:
        config.update(class_name="Evil", module="evil")

    with pytest.raises(AssessmentError, match="class 'Evil' of module 'evil' in model"):
        load(edit(honest(".keras"), change))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_layer_that_would_fill_memory(honest: Callable[[str], Path], suffix: str):
    path = edit(honest(suffix), lambda c: layer(c, "out")["config"].update(units=10**12))
    with pytest.raises(AssessmentError, match="got units 1000000000000 in layer 'out'"):
        load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "configuration in JSON"),
        ("[" * 100_000, "configuration in JSON"),
        ("[]", "names its class; got none"),
        ('{"class_name": 3}', "names its class; got none"),
        ('{"class_name": "Sequential", "config": ' + "[" * 200 + "]" * 200 + "}", "deeper than"),
        (" " * (17 * 2**20), "at most 16777216 bytes"),
    ],
    ids=["cut", "deep-text", "list", "number", "deep", "long"],
)
def test_configurations_out_of_shape(text: str, message: str):
    with pytest.raises(AssessmentError, match=message):
        check_config(parse_config(text))


def test_weights_without_a_model(tmp_path: Path, honest: Callable[[str], Path]):
    model = keras.models.load_model(honest(".keras"))
    model.save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(AssessmentError, match=r"whole Keras model; got .*\(weights only\)"):
        load(tmp_path / "m.weights.h5")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 no zip", b"\x80\x04]\x94."])
def test_files_that_are_no_model(tmp_path: Path, content: bytes):
    path = tmp_path / "m.h5"
    path.write_bytes(content)
    with pytest.raises(AssessmentError, match=r"expected a (Keras model|readable .keras file)"):
        load(path)


def test_external_link(tmp_path: Path, honest: Callable[[str], Path]):
    path = honest(".h5")
    with h5py.File(path, "r+") as file:
        file["model_weights/leak"] = h5py.ExternalLink("/etc/passwd", "/x")
    with pytest.raises(AssessmentError, match=r"a link to another .*'/model_weights/leak'"):
        load(path)


def test_soft_link(honest: Callable[[str], Path]):
    path = honest(".h5")
    with h5py.File(path, "r+") as file:
        file["loop"] = h5py.SoftLink("/model_weights")
    with pytest.raises(AssessmentError, match=r"a link to another .*'/loop'"):
        load(path)


def replace_kernel(path: Path, make: Callable[[Any, str], None]) -> None:
    with h5py.File(path, "r+") as file:
        found: list[str] = []
        file.visit(lambda name: found.append(name) if name.endswith("kernel") else None)
        del file[found[0]]
        make(file, found[0])


def test_external_storage(tmp_path: Path, honest: Callable[[str], Path]):
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 1000)
    path = honest(".h5")
    replace_kernel(
        path,
        lambda file, name: file.create_dataset(
            name, (12, 3), "f4", external=[(str(secret), 0, 144)]
        ),
    )
    with pytest.raises(AssessmentError, match="data stored in another file"):
        load(path)


def test_virtual_dataset(honest: Callable[[str], Path]):
    path = honest(".h5")

    def make(file: Any, name: str) -> None:
        layout = h5py.VirtualLayout((12, 3), "f4")
        layout[:6] = h5py.VirtualSource("/etc/passwd", "x", (6, 3))
        file.create_virtual_dataset(name, layout)

    replace_kernel(path, make)
    with pytest.raises(AssessmentError, match="a virtual dataset"):
        load(path)


def test_declared_weights_larger_than_the_file(honest: Callable[[str], Path]):
    path = honest(".h5")
    replace_kernel(
        path,
        lambda file, name: file.create_dataset(name, (10**6, 10**6), "f4", chunks=(1000, 1000)),
    )
    with pytest.raises(AssessmentError, match="expected weights that fit the file"):
        load(path)


@pytest.mark.parametrize("dtype", [h5py.string_dtype(), np.dtype("V8"), h5py.ref_dtype])
def test_values_that_are_no_numbers(honest: Callable[[str], Path], dtype: Any):
    path = honest(".h5")
    replace_kernel(path, lambda file, name: file.create_dataset(name, (2,), dtype))
    with pytest.raises(AssessmentError, match="plain weights in the HDF5 file; got values of type"):
        load(path)


def test_a_group_that_contains_itself(honest: Callable[[str], Path]):
    path = honest(".h5")
    with h5py.File(path, "r+") as file:
        file["model_weights/again"] = file["model_weights"]  # a hard link: a cycle
    load(path)  # read once, not for ever


def test_keras_archive_bomb(tmp_path: Path, honest: Callable[[str], Path]):
    path = honest(".keras")
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", config)
        with archive.open("model.weights.h5", "w") as file:
            for _ in range(300):
                file.write(b"\0" * 2**20)
    with pytest.raises(AssessmentError, match="compression ratio of at most 200"):
        load(path)


def test_weights_that_do_not_fit_the_configuration(honest: Callable[[str], Path]):
    for suffix in (".h5", ".keras"):
        path = edit(honest(suffix), lambda c: layer(c, "out")["config"].update(units=4))
        with pytest.raises(AssessmentError, match=r"that Keras 3 loads; got the error: \S"):
            load(path)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=20))
def test_mutated_archives(tmp_path: Path, changes: list[tuple[float, int]]):
    buffer = io.BytesIO()
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": []}}
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 200)
    content = bytearray(buffer.getvalue())
    for at, value in changes:
        content[int(at * len(content))] = value
    path = tmp_path / "m.keras"
    path.write_bytes(content)
    with pytest.raises(AssessmentError, match="model: expected"):
        load(path)
