"""Files that fooled earlier versions of the scan: each looked clean, or only odd, and was not."""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from corpus import messages as m
from corpus.archives import evil, object_npz, zipped
from corpus.canary import Canary
from corpus.graphs import gguf
from corpus.keras_files import keras3, lambda3, layer
from corpus.opcodes import called, plain, stream
from corpus.streams import dtype, wrapped
from corpus.writing import Builder, fixed, written


def torch_bytes(canary: Canary) -> bytes:
    """What torch.load would execute: PyTorch's old format with a call in it."""
    return evil(canary) + pickle.dumps(torch.ones(2))


def grown_bytes(canary: Canary) -> bytes:
    """An empty bytearray that grows while loading, and is then given to torch.load."""
    numbers = b"".join(b"K" + bytes([value]) for value in torch_bytes(canary))
    return stream(
        b"ctorch.storage\n_load_from_bytes\n\x96" + bytes(8) + b"(" + numbers + b"e\x85R",
        protocol=5,
    )


def handed_on(canary: Canary) -> bytes:
    """numpy's function calls another one, which the scan allows only where it sees with what."""
    hidden = b"N0" + torch_bytes(canary) + b"x"  # looks like no pickle in either place
    return stream(
        b"cnumpy.random._pickle\n__randomstate_ctor\n(B" + struct.pack("<I", len(hidden)) + hidden,
        b"ctorch.storage\n_load_from_bytes\ntR",
        protocol=3,
    )


def handed_on_as_method(canary: Canary) -> bytes:
    """A state that puts it in the place of ``append``, behind more keys than are kept."""
    keys = {f"k{number}": 0 for number in range(3000)}
    hidden = b"N0" + torch_bytes(canary) + b"x"
    state = plain(keys) + b"X\x06\x00\x00\x00append" + b"ctorch.storage\n_load_from_bytes\ns"
    return stream(
        b"cargparse\nNamespace\n)\x81" + state + b"bB" + struct.pack("<I", len(hidden)) + hidden,
        b"a",
        protocol=3,
    )


def state_of_a_subclass(canary: Canary) -> bytes:
    """The state is an OrderedDict: a dict for the unpickler, a call for a reader."""
    del canary
    return stream(
        b"cargparse\nNamespace\n)\x81ccollections\nOrderedDict\n)R"
        b"X\x0c\x00\x00\x00__setstate__cbuiltins\nlist\nsb"
    )


def behind_the_frame(canary: Canary) -> bytes:
    """The first pickle stops inside its frame: the second begins behind the frame, or before."""
    second = b"N0" + called("builtins", "eval", canary.python) + b"." + b"x"
    swallow = b"\x80\x04B" + struct.pack("<I", len(second))
    frame = b"N." + swallow
    return b"\x80\x04\x95" + struct.pack("<Q", len(frame)) + frame + second + b"."


def fitted_stack() -> Any:
    from sklearn.ensemble import StackingRegressor
    from sklearn.linear_model import LinearRegression

    rows = np.random.default_rng(0).random((20, 3))
    return StackingRegressor([("a", LinearRegression())], cv=2).fit(rows, rows[:, 0])


def stacked_path(canary: Canary) -> bytes:
    """A stacking model whose estimator is a path and whose method is called write_bytes."""
    model = fitted_stack()
    model.estimators_, model.stack_method_ = [canary.file], ["write_bytes"]
    return pickle.dumps(model)


def stacked_later(canary: Canary) -> bytes:
    """The same without a path: the list of methods grows after the model has it."""
    del canary
    model = b"csklearn.ensemble._stacking\nStackingRegressor\n)\x81"
    state = b"}" + plain("stack_method_")[:-2] + b"]q\x05sb"
    return stream(model + state, b"0h\x05" + plain("to_json")[:-2] + b"a0N")


def lying_array(kind: bytes) -> Callable[[Canary], bytes]:
    """An array whose dtype makes numpy take bytes for addresses, or read beyond them."""

    def make(canary: Canary) -> bytes:
        del canary
        state = plain(1) + plain((1,)) + kind + plain(False) + plain(b"A" * 8, 3)
        array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
        return stream(array + b"(" + state + b"tb", protocol=3)

    return make


def arguments_by_list(canary: Canary) -> bytes:
    """Only Python's own unpickler, which joblib uses, takes arguments from a list.

    Their number is hidden from a reader who expects a tuple: joblib's wrapper comes out, and bytes
    are skipped that the reader takes for opcodes.
    """
    call = b"N0" + called("builtins", "eval", canary.python) + b"." + b"x"
    values = b"\x8e" + struct.pack("<Q", len(call))
    honest = wrapped(values + call + b".", plain(np.dtype("u1")), len(values))
    made = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81"
    other = (
        b"ccopyreg\n__newobj__\ncbuiltins\nlist\n(cjoblib.numpy_pickle\nNumpyArrayWrapper\nl\x85RR"
    )
    return honest.replace(made, other)


def unknown_call(front: bytes, *, behind: bytes = b"") -> Callable[[Canary], bytes]:
    """Another format for a reader of heads; for a loader of pickles a call of something unknown."""

    def make(canary: Canary) -> bytes:
        return front + called("some_package.nobody_knows", "run", canary.python) + b"." + behind

    return make


def two_directories(outer: bytes, inner: bytes) -> bytes:
    """An archive whose comment is another one: zipfile goes by the last end record it sees."""
    comment = inner + b"x"
    return outer[:-2] + struct.pack("<H", len(comment)) + comment


def npz_in_comment(canary: Canary) -> bytes:
    return two_directories(zipped({"readme.txt": b"hello"}), object_npz(canary))


def keras_in_comment(canary: Canary) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", json.dumps(built(canary)))
    return two_directories(zipped({"config.json": b"{}"}), buffer.getvalue())


def built(canary: Canary) -> object:
    """A model whose shape is known, so that Keras calls the layer while it loads."""
    known = layer("InputLayer", {"name": "in", "batch_shape": [None, 2], "dtype": "float32"})
    return keras3(known, lambda3(canary)["config"]["layers"][0])


def between(folder: Path, canary: Canary) -> Path:
    """A Keras model with an image in front of it and a byte behind it, which zipfile allows."""
    content = keras_zip(built)(folder, canary).read_bytes()
    (folder / "m.keras").write_bytes(b"\x89PNG\r\n\x1a\n" + content + b"x")
    return folder / "m.keras"


def wide_end_twice(canary: Canary) -> bytes:
    """Two zip64 records: the locator names one, readers of old look right in front of it."""
    good, bad = zipped({"readme.txt": b"hello"}), object_npz(canary)
    content = b""
    for archive in (bad, good):
        size = struct.unpack("<L", archive[-10:-6])[0]
        content += archive[:-22]
        start = len(content) - size
        record = b"PK\x06\x06" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, 1, 1, size, start)
        content += record
        last = record
    here = len(content) - len(last)
    # the bad directory once more, right in front of the locator
    size = struct.unpack("<L", bad[-10:-6])[0]
    directory = bytearray(bad[-22 - size : -22])
    content += bytes(directory)
    content += b"PK\x06\x06" + struct.pack(
        "<Q2H2L4Q", 44, 45, 45, 0, 0, 1, 1, size, len(content) - size
    )
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, here, 1)
    end = b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
    return content + locator + end


def behind_zeros(canary: Canary) -> bytes:
    """A member that no directory names, behind more zeros than anybody looks at."""
    good = zipped({"good.txt": b"hello"})
    hidden = zipped({"evil.pkl": evil(canary)})
    at = good.index(b"PK\x01\x02")
    gap = bytes(2**20) + hidden[: hidden.index(b"PK\x01\x02")]
    raw = bytearray(good[:at] + gap + good[at:])
    struct.pack_into("<L", raw, len(raw) - 6, at + len(gap))
    return bytes(raw)


def second_name(canary: Canary) -> bytes:
    """A member with a field that gives it another name for readers that know the field."""
    info = zipfile.ZipInfo("notes.txt")
    name = b"../../config.json"
    info.extra = struct.pack("<2HBL", 0x7075, 5 + len(name), 1, 0) + name
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, canary.shell)
    return buffer.getvalue()


def tar_behind_zeros(canary: Canary) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("readme.txt"))
    return buffer.getvalue() + bytes(2**20) + evil(canary)


def npy_as_storage(canary: Canary) -> bytes:
    """An array of objects where PyTorch keeps raw values, in an archive that numpy reads, too."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([None], object), allow_pickle=True)
    head = buffer.getvalue()[: buffer.getvalue().index(b"\n") + 1]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", b"\x80\x02N.")
        archive.writestr("data/0", head + evil(canary))
    return packed.getvalue()


def torchscript(code: bytes) -> Callable[[Canary], bytes]:
    def make(canary: Canary) -> bytes:
        del canary
        return zipped({
            "m/version": b"3\n", "m/data.pkl": b"\x80\x02N.", "m/constants.pkl": b"\x80\x02).",
            "m/code/__torch__.py": b"def forward(self, x):\n  " + code,
        })  # fmt: skip

    return make


def keras_zip(make: Callable[[Canary], object], front: str = "", pad: int = 0) -> Builder:
    def write(folder: Path, canary: Canary) -> Path:
        with zipfile.ZipFile(folder / "m.keras", "w", zipfile.ZIP_DEFLATED) as archive:
            text = json.dumps(make(canary))
            archive.writestr("config.json", front + text + " " * pad)
        return folder / "m.keras"

    return write


def far_hdf5(folder: Path, canary: Canary) -> Path:
    """An HDF5 file behind 32 MiB of blanks, where the library still finds it."""
    file = folder / "m.h5"
    with h5py.File(file, "w", userblock_size=2**25) as target:
        target.attrs["model_config"] = json.dumps(lambda3(canary))
    with file.open("r+b") as raw:
        raw.write(b" " * 2**25)
    return file


def saved(*nodes: bytes, functions: tuple[bytes, ...] = ()) -> Builder:
    def write(folder: Path, canary: Canary) -> Path:
        del canary
        target = folder / "saved"
        target.mkdir()
        graph = m.tf_graph(*nodes, functions=functions)
        (target / "saved_model.pb").write_bytes(m.saved_model(graph))
        return target

    return write


def split_graph(folder: Path, canary: Canary) -> Path:
    """The graph in two halves, which a reader of protobuf puts together."""
    path = saved(m.tf_text("path", "/root/x"), m.tf_call("c", "save", "x", "path"))(folder, canary)
    main = m.tf_graph(m.tf_text("path", "/root/x"), m.tf_call("c", "save", "x", "path"))
    meta = m.content(2, main) + m.content(2, m.tf_graph(functions=(SAVE,)))
    (path / "saved_model.pb").write_bytes(m.integer(1, 1) + m.content(2, meta))
    return path


def split_layer(folder: Path, canary: Canary) -> Path:
    """A layer's kind and its configuration in two halves of one object."""
    path = saved(m.tf_node("c", "NoOp"))(folder, canary)
    layer = {"class_name": "Lambda", "config": {"name": "l", "function": ["x"]}}
    node = m.content(4, m.content(1, "_tf_keras_layer")) + m.content(
        4, m.content(3, json.dumps(layer))
    )
    graph = m.tf_graph(m.tf_node("c", "NoOp"))
    (path / "saved_model.pb").write_bytes(m.saved_model(graph, m.content(7, m.content(1, node))))
    return path


SAVE = m.tf_function(
    "save", m.tf_node("s", "SaveV2", "prefix", "n", "n"), arguments=("tensor", "prefix")
)
OUTPUT = m.tf_attribute("output_stream", m.content(2, "file:///tmp/x"))


WIRES = m.onnx_tensor([2], "x").replace(
    m.content(13, m.content(1, "location") + m.content(2, "x")),
    m.content(13, m.content(1, "location") + m.content(2, "../../etc/passwd") + m.integer(2, 1)),
)
"""The place once more, as a number: a reader of texts sees that one."""
FAR_FIELD = (
    called("numpy", "dtype", "V8", False, True) + b"(K\x03X\x01\x00\x00\x00|N" + plain(("a",))
    + b"}X\x01\x00\x00\x00a" + plain(np.dtype("f8")) + plain(2**30) + b"\x86s"
    + plain(8) + plain(1) + plain(16) + b"tb"
)  # fmt: skip
TEMPLATE = "{{ x['\\x5f\\x5fclass\\x5f\\x5f'] }}"
PLAIN: dict[str, Builder] = {
    "pickle-grown-bytes": written("m.pkl", grown_bytes),
    "pickle-handed-on": written("m.pkl", handed_on),
    "pickle-handed-on-as-method": written("m.pkl", handed_on_as_method),
    "pickle-state-of-a-subclass": written("m.pkl", state_of_a_subclass),
    "pickle-behind-the-frame": written("m.pkl", behind_the_frame),
    "pickle-arguments-by-list": written("m.joblib", arguments_by_list),
    "pickle-stacked-path": written("m.pkl", stacked_path),
    "pickle-stacked-later": written("m.pkl", stacked_later),
    "pickle-objects-as-numbers": written(
        "m.pkl", lying_array(dtype("O8", 3, "|", None, None, None, -1, -1, 0))
    ),
    "pickle-numbers-as-objects": written(
        "m.pkl", lying_array(dtype("f8", 3, "<", None, None, None, -1, -1, 63))
    ),
    "pickle-field-outside": written("m.pkl", lying_array(FAR_FIELD)),
    "pickle-as-tflite": written("m.png", unknown_call(b"VabcTFL3\n0")),
    "pickle-as-bytecode": written("model", unknown_call(b"V\x0c\r\n0")),
    "pickle-as-checkpoint": written(
        "weights", unknown_call(b"Vx\n0", behind=bytes(48) + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb")
    ),
    "npz-in-comment": written("m.npz", npz_in_comment),
    "keras-in-comment": written("m.keras", keras_in_comment),
    "keras-between": between,
    "npz-two-wide-ends": written("m.npz", wide_end_twice),
    "zip-behind-zeros": written("m.zip", behind_zeros),
    "zip-second-name": written("m.zip", second_name),
    "tar-behind-zeros": written("m.tar", tar_behind_zeros),
    "torchscript-method": written("m.pt", torchscript(b"return x.save('/tmp/x')\n")),
    "torchscript-blanks": written(
        "m.pt", torchscript(b"return torch . from_file('/etc/passwd')\n")
    ),
    "torchscript-ops": written("m.pt", torchscript(b"return ops.aten.from_file('/etc/passwd')\n")),
    "torchscript-long": written(
        "m.pt", torchscript(b"#" + b" " * 2**26 + b"\n  return torch.load(x)\n")
    ),
    "keras-in-list": keras_zip(lambda canary: [lambda3(canary)]),
    "keras-in-table": keras_zip(lambda canary: {"a": {"b": [lambda3(canary)]}}),
    "keras-huge": keras_zip(lambda c: {"learner": 1, "x": lambda3(c)}, pad=2**26),
    "keras-far-hdf5": far_hdf5,
    "savedmodel-print-first": saved(
        m.content(1, "p") + OUTPUT + m.content(2, "PrintV2") + m.content(3, "x")
    ),
    "savedmodel-print-log": saved(
        m.tf_node(
            "p", "PrintV2",
            attributes=m.tf_attribute("output_stream", m.content(2, "file:log(x")),
        )
    ),
    "savedmodel-default-path": saved(
        m.tf_text("path", "/root/.bashrc"), m.tf_node("p", "PlaceholderWithDefault", "path"),
        m.tf_node("s", "SaveV2", "p", "n", "n"),
    ),
    "savedmodel-default-in-a-circle": saved(
        m.tf_node("a", "PlaceholderWithDefault", "b"), m.tf_node("b", "Identity", "a"),
        m.tf_node("s", "SaveV2", "a", "n", "n"),
    ),
    "savedmodel-path-through-call": saved(
        m.tf_text("path", "/root/x"), m.tf_call("c", "save", "x", "path"), functions=(SAVE,)
    ),
    "savedmodel-path-through-two-calls": saved(
        m.tf_call("c", "outer", "x"),
        functions=(
            SAVE,
            m.tf_function(
                "outer", m.tf_text("path", "/x"), m.tf_call("i", "save", "a", "path:0"),
                arguments=("a",),
            ),
        ),
    ),
    "savedmodel-library-apart": split_graph,
    "savedmodel-layer-apart": split_layer,
    "savedmodel-path-in-variable": saved(
        m.tf_node("v", "VarHandleOp"), m.tf_node("r", "ReadVariableOp", "v"),
        m.tf_node("s", "SaveV2", "r", "n", "n"),
    ),
    "savedmodel-same-name-twice": saved(
        m.tf_node("n", "WriteFile", "x"), m.tf_node("n", "NoOp"), m.tf_node("n", "NoOp")
    ),
    "savedmodel-vocabulary": saved(m.tf_node("n", "GenerateVocabRemapping", "a", "b")),
    "graphdef-as-pieces": written(
        "frozen.pb",
        fixed(m.content(1, m.tf_node("n", "ReadFile", "x") + b"\x15\x00\x00\x00\x00")),
    ),
    "onnx-python-op": written(
        "m.onnx", fixed(m.onnx_model(m.onnx_node("PythonOp", "com.microsoft")))
    ),
    "yaml-handle": written(
        "c.yaml",
        fixed(b"%TAG !p! tag:yaml.org,2002:py\n---\na: !p!thon/object/apply:os.system ['true']\n"),
    ),
    "yaml-escapes": written("c.yaml", fixed(b"a: !!%70ython/object/apply:os.system ['true']\n")),
    "template-in-list": written(
        "tokenizer_config.json",
        fixed(b'{"chat_template": [{"name": "x", "template": "{{ a.__class__ }}"}]}'),
    ),
    "template-in-table": written(
        "tokenizer_config.json", fixed(b'{"chat_template": {"x": "{{ a.__class__ }}"}}')
    ),
    "template-escapes": written(
        "tokenizer_config.json", fixed(json.dumps({"chat_template": TEMPLATE}).encode())
    ),
    "yaml-in-braces": written(
        "c.yaml", fixed(b"{a: !!python/object/apply:os.system ['true']}\n")
    ),
    "npy-as-storage": written("m.npz", npy_as_storage),
    "yaml-mark-tag": written(
        "c.yaml",
        fixed("\ufeff%TAG !x! tag:yaml.org,2002:py\n---\n!x!thon/name:os.system\n".encode()),
    ),
    "yaml-return-tag": written(
        "c.yaml", fixed(b"#\r%TAG !x! tag:yaml.org,2002:py\r---\r!x!thon/name:os.system\r")
    ),
    "yaml-mark-letters": written(
        "c.yaml", fixed("\ufeff!!py%74hon/object/apply:os.system ['true']\n".encode())
    ),
    "yaml-other-name": written(
        "settings.conf",
        lambda canary: f"a: !!python/object/apply:os.system ['{canary.shell}']\n".encode(),
    ),
    "onnx-two-wires": written("m.onnx", fixed(m.onnx_model(m.onnx_node("Relu"), tensors=(WIRES,)))),
    "template-long": written(
        "m.gguf", fixed(gguf("{#" + " " * 2**20 + "#}{{ a.__class__ }}"))
    ),
    "mlflow-loader": written(
        "MLmodel", fixed(b"flavors:\n  python_function:\n    loader_module: os\n")
    ),
    "template-file": written("chat_template.jinja", fixed(b"{{ a.__class__.__mro__ }}")),
    "gzip-behind-padding": written(
        "m.pkl.gz",
        lambda canary: gzip.compress(b"\x80\x02N.") + bytes(9) + gzip.compress(evil(canary)),
    ),
    "git-pointer": written(
        "pytorch_model.bin",
        fixed(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
    ),
    "page-as-hdf5": written("m.h5", fixed(b"<html>Not found</html>\n")),
    "empty-pickle": written("m.pkl", fixed(b"")),
    "tflite-as-image": written("m.png", fixed(b"\x1c\0\0\0TFL3" + bytes(40))),
}  # fmt: skip

FILES: dict[str, Builder] = {f"trick-{name}": make for name, make in PLAIN.items()}
