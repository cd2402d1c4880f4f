"""ONNX, SavedModel and other formats that are no pickles, made to do harm."""

import json
import struct
from pathlib import Path

from corpus import messages as m
from corpus.canary import Canary
from corpus.writing import Builder, fixed, written

FUNCTION = "__inference_f_1"


def saved(graph: bytes, more: bytes = b"") -> Builder:
    def write(folder: Path, canary: Canary) -> Path:
        del canary
        target = folder / "saved"
        target.mkdir()
        (target / "saved_model.pb").write_bytes(m.saved_model(graph, more))
        return target

    return write


def operation(name: str) -> Builder:
    """The op in a function of the library, as TensorFlow 2 writes it."""
    inner = m.tf_function(FUNCTION, m.tf_node("n", name, "x"))
    return saved(m.tf_graph(m.tf_node("c", "PartitionedCall"), functions=(inner,)))


def disguised(folder: Path, canary: Canary) -> Path:
    """A SavedModel with a field that makes it look like ONNX; TensorFlow ignores that field."""
    del canary
    target = folder / "saved"
    target.mkdir()
    graph = m.tf_graph(m.tf_node("n", "ReadFile", "x"))
    content = m.saved_model(graph) + m.content(7, b"") + m.content(8, b"")
    (target / "saved_model.pb").write_bytes(content)
    return target


def as_text(folder: Path, canary: Canary) -> Path:
    """TensorFlow also loads a SavedModel in text form."""
    target = folder / "saved"
    target.mkdir()
    graph = f'graph_def {{ node {{ name: "n" op: "WriteFile" device: "{canary.file}" }} }}'
    (target / "saved_model.pbtxt").write_text(
        f"saved_model_schema_version: 1 meta_graphs {{ {graph} }}"
    )
    return target


def print_to_file(folder: Path, canary: Canary) -> Path:
    value = m.content(2, f"file://{canary.file}")
    attribute = m.content(5, m.content(1, "output_stream") + m.content(2, value))
    node = m.tf_node("p", "PrintV2", "x", attributes=attribute)
    return saved(m.tf_graph(node))(folder, canary)


def metadata(folder: Path, canary: Canary) -> Path:
    target = saved(m.tf_graph(m.tf_node("c", "NoOp")))(folder, canary)
    layer = {"class_name": "Lambda", "name": "l", "config": {"name": "l", "function": ["x"]}}
    node = m.content(3, "root.l") + m.content(4, "_tf_keras_layer")
    node += m.content(5, json.dumps(layer))
    (target / "keras_metadata.pb").write_bytes(m.content(1, node))
    return target


def safetensors(header: object, values: bytes, extra: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + values + extra


def gguf(template: str, front: bytes = b"GGUF") -> bytes:
    key, text = b"tokenizer.chat_template", template.encode()
    return (
        front + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", len(key)) + key
        + struct.pack("<I", 8) + struct.pack("<Q", len(text)) + text
    )  # fmt: skip


ROW = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
LITERAL = m.tf_graph(
    m.tf_node("path", "Const"), m.tf_node("n", "Const"), m.tf_node("s", "SaveV2", "path", "n", "n")
)
OUTSIDE = m.content(6, m.content(2, "../../../etc/passwd"))
TWICE = m.onnx_tensor([2], "../x") + m.content(
    13, m.content(1, "location") + m.content(2, "weights")
)
SUBGRAPH = m.content(
    5, m.content(1, "then_branch") + m.content(6, m.content(1, m.onnx_node("Evil", "evil.ops")))
)


def _file(name: str, content: bytes) -> Builder:
    return written(name, fixed(content))


FILES: dict[str, Builder] = {
    **{
        f"savedmodel-{name}": operation(name)
        for name in (
            "ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "EagerPyFunc", "PyFuncStateless",
            "RemoteCall", "RpcCall", "TFRecordDatasetV2", "TextLineDataset", "LMDBReader", "Save",
            "ImmutableConst", "DecodeProtoV2", "LoadAndRemapMatrix", "DumpTensor",
            "InitializeTableFromTextFileV2", "SomebodysCustomOp",
        )
    },
    "savedmodel-disguised": disguised,
    "savedmodel-as-text": as_text,
    "savedmodel-print-to-file": print_to_file,
    "savedmodel-literal-path": saved(LITERAL),
    "savedmodel-asset-outside": saved(m.tf_graph(m.tf_node("c", "NoOp")), OUTSIDE),
    "savedmodel-lambda": metadata,
    "savedmodel-cut": saved(m.tf_graph(m.tf_node("n", "ReadFile"))[:-5] + b"\xff"),
    "graphdef-readfile": _file(
        "frozen.pb", m.content(1, m.tf_node("n", "ReadFile", "x")) + m.content(4, m.integer(1, 27))
    ),
    "onnx-custom-op": _file("m.onnx", m.onnx_model(m.onnx_node("Evil", "evil.ops"))),
    "onnx-custom-op-inside": _file("m.onnx", m.onnx_model(m.onnx_node("If", "", SUBGRAPH))),
    "onnx-upwards": _file(
        "m.onnx", m.onnx_model(m.onnx_node("Relu"), tensors=(m.onnx_tensor([2], "../../x"),))
    ),
    "onnx-absolute": _file(
        "m.onnx", m.onnx_model(m.onnx_node("Relu"), tensors=(m.onnx_tensor([2], "/etc/passwd"),))
    ),
    "onnx-two-places": _file("m.onnx", m.onnx_model(m.onnx_node("Relu"), tensors=(TWICE,))),
    "onnx-data-missing": _file(
        "m.onnx", m.onnx_model(m.onnx_node("Relu"), tensors=(m.onnx_tensor([2], "weights"),))
    ),
    "onnx-huge": _file(
        "m.onnx", m.onnx_model(m.onnx_node("Relu"), tensors=(m.onnx_tensor([2**31, 2**31]),))
    ),
    "onnx-cut": _file("m.onnx", m.onnx_model(m.onnx_node("Relu"))[:-3]),
    "safetensors-overlap": _file(
        "m.safetensors",
        safetensors({"a": ROW, "b": {**ROW, "data_offsets": [4, 12]}}, b"\0" * 12),
    ),
    "safetensors-hole": _file("m.safetensors", safetensors({"a": ROW}, b"\0" * 8, b"hidden")),
    "safetensors-twice": _file(
        "m.safetensors",
        safetensors(b'{"a":%b,"a":%b}' % ((json.dumps(ROW).encode(),) * 2), b"\0" * 8),
    ),
    "gguf-template": _file(
        "m.gguf", gguf("{{ ''.__class__.__mro__[1].__subclasses__() }}")
    ),
    "yaml-objects": _file("conf.yaml", b"a: !!python/object/apply:os.system ['true']\n"),
    "yaml-tag": _file("c.yml", b"%TAG !p! tag:yaml.org,2002:python/\n---\na: !p!name:os.system\n"),
    "xml-outside": _file(
        "m.pmml", b'<?xml version="1.0"?><!DOCTYPE PMML SYSTEM "http://127.0.0.1/x.dtd"><PMML/>'
    ),
    "xml-entities": _file(
        "m.pmml", b'<?xml version="1.0"?>\n<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><PMML/>'
    ),
    "library": _file("custom_ops.so", b"\x7fELF\x02\x01\x01" + b"\0" * 60),
    "source": _file("model.py", b"import os\nos.system('true')\n"),
    "bytecode": _file("model.pyc", b"\xa7\r\r\n" + b"\0" * 12 + b"\xe3"),
    "unknown": _file("model.bin", b"\x01\x02\x03\xff\xfe" * 40),
}  # fmt: skip
