"""Honest model files, written by the libraries themselves wherever they are at hand."""

import datetime
import gzip
import io
import json
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch

from corpus import messages as m
from corpus.graphs import ROW, gguf, safetensors

os.environ.setdefault("KERAS_BACKEND", "torch")

Builder = Callable[[Path], Path]


@cache
def fitted(name: str) -> Any:
    """A scikit-learn estimator, fitted."""
    from sklearn.cluster import KMeans
    from sklearn.compose import ColumnTransformer
    from sklearn.decomposition import PCA
    from sklearn.ensemble import (
        GradientBoostingClassifier,
        HistGradientBoostingClassifier,
        IsolationForest,
        RandomForestClassifier,
        StackingClassifier,
    )
    from sklearn.gaussian_process import GaussianProcessClassifier
    from sklearn.linear_model import GammaRegressor, LogisticRegression, SGDClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import (
        FunctionTransformer,
        OneHotEncoder,
        SplineTransformer,
        StandardScaler,
    )
    from sklearn.svm import SVC

    made: dict[str, Any] = {
        "logistic": LogisticRegression(),
        "forest": RandomForestClassifier(5),
        "boosting": GradientBoostingClassifier(n_estimators=5),
        "histogram": HistGradientBoostingClassifier(max_iter=3),
        "isolation": IsolationForest(n_estimators=5),
        "svc": SVC(probability=False),
        "sgd": SGDClassifier(),
        "mlp": MLPClassifier((4,), max_iter=5),
        "neighbours": KNeighborsClassifier(algorithm="kd_tree"),
        "manhattan": KNeighborsClassifier(algorithm="ball_tree", metric="manhattan"),
        "bayes": GaussianNB(),
        "stack": StackingClassifier([("a", GaussianNB()), ("b", SVC())], cv=2),
        "process": GaussianProcessClassifier(),
        "clusters": KMeans(2, n_init=1),
        "components": PCA(2),
        "spline": SplineTransformer(),
        "gamma": GammaRegressor(),
        "search": GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
        "pipeline": make_pipeline(
            ColumnTransformer([("one", OneHotEncoder(handle_unknown="ignore"), [0])],
                              remainder=FunctionTransformer(np.log1p)),
            StandardScaler(with_mean=False), LogisticRegression(),
        ),
    }  # fmt: skip
    random = np.random.default_rng(0)
    x, y = random.integers(0, 9, (60, 4)).astype(float), np.arange(60) % 2
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return made[name].fit(x, y + 1)


ESTIMATORS = (
    "logistic", "forest", "boosting", "histogram", "isolation", "svc", "sgd", "mlp", "neighbours",
    "manhattan", "bayes", "process", "clusters", "components", "search", "pipeline", "stack",
    "spline", "gamma",
)  # fmt: skip


def pickled(name: str, protocol: int, folder: Path) -> Path:
    file = folder / f"{name}.pkl"
    file.write_bytes(pickle.dumps(fitted(name), protocol))
    return file


def dumped(name: str, compress: Any, folder: Path) -> Path:
    file = folder / f"{name}.joblib"
    joblib.dump(fitted(name), file, compress=compress)
    return file


def value(make: Callable[[], Any], name: str, folder: Path) -> Path:
    file = folder / name
    file.write_bytes(pickle.dumps(make()))
    return file


def frame() -> Any:
    """Without texts: pandas 3 keeps those in Arrow's buffers, which are not on the list."""
    import pandas as pd

    kinds = {0: [1, 2], 1: [1.5, None], 2: pd.Categorical([1, 2])}
    return pd.DataFrame(kinds).set_index(pd.to_datetime(["2020-01-01", "2021-01-01"]))


def arrays() -> Any:
    return {
        "f": np.ones((2, 3), np.float32), "i": np.arange(3), "s": np.array(["a", "bc"]),
        "o": np.array([1, "x", None], dtype=object), "n": np.float64(1.5),
        "r": np.random.default_rng(0), "m": np.ma.masked_array([1, 2], [True, False]),
        "z": np.zeros(2, [("a", "f4"), ("b", "i8", (2,))]),
    }  # fmt: skip


def values() -> Any:
    return OrderedDict(
        a=defaultdict(list, x=[1]), b={1, 2}, c=frozenset("ab"), d=datetime.date(2020, 1, 1),
        e=b"bytes", f=bytearray(b"x"), g=complex(1, 2), h=10**30, i=slice(1, 2), j=Path("a/b"),
    )  # fmt: skip


def sparse() -> Any:
    import scipy.sparse

    return [
        getattr(scipy.sparse, f"{kind}_{what}")(np.eye(3))
        for kind in ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
        for what in ("matrix", "array")
    ]


def records() -> Any:
    kinds: list[Any] = [
        "f8", "S5", "U5", "V5", "O", "M8[ns]", "m8", "c16", "?", ">i4", "(2,3)f4",
        [("a", "f4"), ("b", "O")], [("a", "f4"), ("b", "i8", (2,)), ("c", [("d", "U3")])],
        [("a", "O", (2,))], {"names": ["a"], "formats": ["i4"], "offsets": [4], "itemsize": 12},
        np.dtype([("a", "u1"), ("b", "f8")], align=True), np.dtype([(("title", "a"), "i4")]),
    ]  # fmt: skip
    shapes = [np.zeros(2, kind) for kind in kinds]
    return [
        shapes,
        list(map(np.dtype, kinds)),
        np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.number,
        np.integer,
    ]


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x))


def torch_file(what: str, folder: Path) -> Path:
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Dropout(0.1))
    file = folder / "model.pt"
    if what == "state":
        torch.save(net.state_dict(), file)
    elif what == "whole":
        torch.save(net, file)
    elif what == "layers":  # a long program text of its members reads as a pickle by chance
        torch.save([torch.nn.LSTM(3, 4), torch.nn.TransformerEncoderLayer(4, 2)], file)
    elif what == "whole-legacy":
        torch.save(net, file, _use_new_zipfile_serialization=False)
    elif what == "legacy":
        torch.save(net.state_dict(), file, _use_new_zipfile_serialization=False)
    elif what == "checkpoint":
        optimiser = torch.optim.Adam(net.parameters())
        net(torch.ones(1, 3)).sum().backward()
        optimiser.step()
        torch.save({"net": net.state_dict(), "opt": optimiser.state_dict(), "epoch": 3}, file)
    elif what == "tensors":
        kinds = (torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.complex64,
                 torch.float8_e4m3fn, torch.uint16, torch.uint32)  # fmt: skip
        torch.save([torch.ones(3).to(kind) for kind in kinds] + [torch.eye(2).to_sparse()], file)
    else:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.trace(Small(), torch.ones(1, 3)).save(str(file))
    return file


@cache
def keras_bytes(suffix: str, what: str) -> bytes:
    import tempfile
    import warnings

    import keras

    layers = keras.layers
    if what == "plain":
        model = keras.Sequential(
            [keras.Input((6, 6, 1)), layers.Conv2D(2, 3, activation="relu"),
             layers.BatchNormalization(), layers.Flatten(), layers.Dense(2, activation="softmax")]
        )  # fmt: skip
    elif what == "functional":
        x = keras.Input((6,))
        y = layers.Dense(4, kernel_regularizer="l2", kernel_initializer="he_normal")(x)
        y = layers.LayerNormalization()(y)
        z = layers.Concatenate()([y, x]) * 2.0
        model = keras.Model(x, layers.Dense(2)(layers.LeakyReLU()(z)))
    elif what == "compiled":
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(
            keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.1, 10)),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"],
        )  # fmt: skip
        model.fit(np.ones((2, 3)), np.array([0, 1]), verbose=0)
    else:
        model = keras.Sequential(
            [keras.Input((5, 3)), layers.Bidirectional(layers.LSTM(2)), layers.Dropout(0.2),
             layers.Dense(1, activation="sigmoid")]
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = Path(folder, f"model{suffix}")
        if suffix == ".weights.h5":
            model.save_weights(file)
        else:
            model.save(file)
        return file.read_bytes()


def keras_file(suffix: str, what: str, folder: Path) -> Path:
    file = folder / f"model{suffix}"
    file.write_bytes(keras_bytes(suffix, what))
    return file


def numpy_file(name: str, folder: Path) -> Path:
    file = folder / name
    if name == "a.npy":
        np.save(file, np.ones((2, 3)))
    elif name == "o.npy":
        np.save(file, np.array(["a", 1, None], dtype=object))
    elif name == "a.npz":
        np.savez(file, a=np.ones(3), b=np.array(["x", "yz"]))
    else:
        np.savez_compressed(file, a=np.ones((30, 30)))
    return file


def content(name: str, raw: bytes, folder: Path) -> Path:
    file = folder / name
    file.write_bytes(raw)
    return file


def archive(folder: Path) -> Path:
    """An upload: a zip with a Keras model and notes in it."""
    file = folder / "upload.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("models/model.h5", keras_bytes(".h5", "plain"))
        target.writestr("models/labels.txt", "cat\ndog\nbird\n")
        target.writestr("README.md", "# A model\n")
    return file


def tarball(folder: Path) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as target:
        raw = pickle.dumps(fitted("logistic"))
        info = tarfile.TarInfo("model/model.pkl")
        info.size = len(raw)
        target.addfile(info, io.BytesIO(raw))
    return content("model.tgz", buffer.getvalue(), folder)


def onnx_outside(folder: Path) -> Path:
    """A model whose weights lie in a file beside it."""
    target = folder / "onnx"
    target.mkdir()
    tensor = m.onnx_tensor([2], "weights.bin")
    (target / "m.onnx").write_bytes(m.onnx_model(m.onnx_node("Relu"), tensors=(tensor,)))
    (target / "weights.bin").write_bytes(np.ones(2, np.float32).tobytes())
    return target


def saved_model(folder: Path) -> Path:
    """As TensorFlow writes one: variables beside the graph, checkpoint paths fed in."""
    target = folder / "saved"
    (target / "variables").mkdir(parents=True)
    save = m.tf_function(
        "__inference__traced_save_9",
        m.tf_node("join", "StringJoin", "file_prefix", "part"), m.tf_node("part", "Const"),
        m.tf_node("shard", "ShardedFilename", "join:output:0", "part"),
        m.tf_node("save", "SaveV2", "shard:filename:0", "part", "part"),
        m.tf_node("merge", "MergeV2Checkpoints", "shard:filename:0", "file_prefix"),
        arguments=("file_prefix", "weights"),
    )  # fmt: skip
    graph = m.tf_graph(
        m.tf_node("v", "VarHandleOp"), m.tf_node("r", "ReadVariableOp", "v"),
        m.tf_node("x", "Placeholder"), m.tf_node("y", "MatMul", "x", "r"),
        m.tf_text("default", "model"), m.tf_node("one", "PlaceholderWithDefault", "default"),
        m.tf_node("two", "PlaceholderWithDefault", "one"),
        m.tf_node("restore", "RestoreV2", "two", "names", "slices"),
        m.tf_node("saver_filename", "Placeholder"),
        m.tf_call("call", "__inference__traced_save_9", "saver_filename", "r"), functions=(save,),
    )  # fmt: skip
    (target / "saved_model.pb").write_bytes(m.saved_model(graph))
    (target / "fingerprint.pb").write_bytes(b"\x08\x96\x01\x10\x01")
    (target / "variables" / "variables.data-00000-of-00001").write_bytes(np.ones(9).tobytes())
    index = b"\0" * 48 + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
    (target / "variables" / "variables.index").write_bytes(index)
    return target


def checkpoint(folder: Path) -> Path:
    """TensorFlow's weights without a graph."""
    target = folder / "weights"
    target.mkdir()
    (target / "c.data-00000-of-00001").write_bytes(np.ones(9).tobytes())
    (target / "c.index").write_bytes(b"\0" * 48 + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb")
    return target


def boosted(protocol: int, folder: Path) -> Path:
    """What xgboost pickles: a scikit-learn estimator, and the booster in it."""
    import xgboost

    x, y = np.random.default_rng(0).random((60, 4)), np.arange(60) % 2
    model = xgboost.XGBClassifier(n_estimators=2, n_jobs=1).fit(x, y)
    file = folder / "model.pkl"
    file.write_bytes(pickle.dumps([model, model.get_booster()], protocol))
    return file


def pieces(folder: Path) -> Path:
    """A vocabulary as SentencePiece writes it: a protobuf that looks like a graph from afar."""
    words = b"".join(
        m.content(1, m.content(1, word) + b"\x15\x00\x00\x80\xbf" + m.integer(3, 1))
        for word in ("<s>", "and", "or")
    )
    file = folder / "tokenizer.model"
    file.write_bytes(words + m.content(2, m.integer(3, 2)) + m.content(3, m.content(1, "nmt")))
    return file


def pictures(folder: Path) -> Path:
    """Images and labels, as they are uploaded beside a model; the labels start like a pickle."""
    from PIL import Image

    with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        for kind in ("png", "jpeg", "bmp", "gif", "webp"):
            buffer = io.BytesIO()
            values = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(values).save(buffer, kind)
            archive.writestr(f"a.{kind}", buffer.getvalue())
        archive.writestr("labels.csv", "(image),label\nc.png,1\n(tR\n")
    return folder / "data.zip"


def mlflow_model(folder: Path) -> Path:
    target = folder / "mlflow"
    target.mkdir()
    (target / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: model.pkl\n")
    (target / "conda.yaml").write_text("dependencies:\n- python=3.11\n")
    (target / "requirements.txt").write_text("scikit-learn==1.5\n")
    (target / "input_example.json").write_text('{"data": [[1, 2]]}')
    (target / "model.pkl").write_bytes(pickle.dumps(fitted("forest")))
    return target


TABLE = {"a": ROW, "__metadata__": {"format": "pt"}}
BOOSTER = json.dumps({"learner": {"objective": {"name": "reg:squarederror"}}, "version": [2, 0]})
FUNCTION = m.content(
    25, m.content(1, "Twice") + m.content(10, "mine") + m.content(7, m.onnx_node("Add"))
)
STANDARD = m.onnx_model(m.onnx_node("Relu"), m.onnx_node("Scaler", "ai.onnx.ml"))


FILES: dict[str, Builder] = {
    **{f"pickle-{name}": partial(pickled, name, 4) for name in ESTIMATORS},
    **{f"pickle-forest-{protocol}": partial(pickled, "forest", protocol) for protocol in (0, 2, 5)},
    **{f"joblib-{name}": partial(dumped, name, 0) for name in ("forest", "histogram", "svc")},
    **{
        f"joblib-{kind if isinstance(kind, int) else kind[0]}": partial(dumped, "forest", kind)
        for kind in (3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3))
    },
    "joblib-pipeline": partial(dumped, "pipeline", 0),
    "pickle-frame": partial(value, frame, "frame.pkl"),
    "pickle-arrays": partial(value, arrays, "arrays.pkl"),
    "pickle-values": partial(value, values, "values.pkl"),
    "pickle-tensor": partial(value, lambda: {"w": torch.ones(3), "n": torch.nn.ReLU()}, "t.pkl"),
    "pickle-records": partial(value, records, "records.pkl"),
    "pickle-sparse": partial(value, sparse, "sparse.pkl"),
    "pickle-bytes": partial(value, lambda: [pickle.dumps([1, 2]), b"\x80\x04 no"], "nested.pkl"),
    **{
        f"torch-{what}": partial(torch_file, what)
        for what in (
            "state", "whole", "layers", "whole-legacy", "legacy", "checkpoint", "tensors", "traced",
        )
    },
    **{
        f"keras-{what}{suffix}": partial(keras_file, suffix, what)
        for what in ("plain", "functional", "compiled", "recurrent")
        for suffix in (".keras", ".h5")
    },
    "keras-weights": partial(keras_file, ".weights.h5", "plain"),
    **{
        f"numpy-{name}": partial(numpy_file, name) for name in ("a.npy", "o.npy", "a.npz", "c.npz")
    },
    "onnx": partial(content, "m.onnx", STANDARD),
    "onnx-weights": partial(
        content, "m.onnx",
        m.onnx_model(m.onnx_node("Relu"), tensors=(m.onnx_tensor([2], raw=b"\0" * 8),)),
    ),
    "onnx-function": partial(
        content, "m.onnx", m.onnx_model(m.onnx_node("Twice", "mine"), more=FUNCTION)
    ),
    "onnx-outside": onnx_outside,
    "safetensors": partial(content, "m.safetensors", safetensors(TABLE, b"\0" * 8)),
    "gguf": partial(content, "m.gguf", gguf("{% for m in messages %}{{ m.role }}{% endfor %}")),
    "xgboost": partial(content, "m.json", BOOSTER.encode()),
    "pmml": partial(content, "m.pmml", b'<?xml version="1.0"?><PMML version="4.4"></PMML>'),
    **(
        {f"xgboost-pickle-{protocol}": partial(boosted, protocol) for protocol in (2, 5)}
        if find_spec("xgboost")
        else {}
    ),
    "sentencepiece": pieces,
    "pictures": pictures,
    "labels": partial(content, "labels.txt", b"cat\ndog\nbird\nimage\nRed\n"),
    "text-gzip": partial(content, "notes.txt.gz", gzip.compress(b"hello")),
    "archive": archive,
    "tarball": tarball,
    "savedmodel": saved_model,
    "checkpoint": checkpoint,
    "mlflow": mlflow_model,
}  # fmt: skip
