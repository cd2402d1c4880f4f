"""TensorFlow graphs: which operations they hold, in the main graph and in every function.

An op is judged by a list of harmless ones; what is not on it is unknown and suspicious, and what
runs Python, or reaches files or the network, is named as such. Fields: tensorflow/core/protobuf/
saved_model.proto, meta_graph.proto, saved_object_graph.proto and tensorflow/core/framework.
"""

import json
import re
from functools import cache
from importlib.resources import files

from modelward.scan.keras_scan import scan_config
from modelward.scan.limits import UnreadableError
from modelward.scan.places import bad_name
from modelward.scan.protobuf import BYTES, Field, Message
from modelward.scan.saved_paths import Graph, written_paths
from modelward.scan.scanner import Item, Scanner

__all__ = ["read"]

MAX_METADATA = 16 * 2**20
_DANGEROUS = re.compile(
    r".*(PyFunc|Rpc|DataService|Reader|Summary\w*Writer|TensorRT|TRTEngine|Library).*|IO>.*"
    r"|(Read|Write)File|MatchingFiles|Remote\w*|_?(Host)?(Send|Recv)|Print|FileSystem\w*|ImportEvent"
    r"|(Experimental)?(TextLine|TFRecord|FixedLengthRecord|Sql|LMDB|CSV|MatchingFiles|Save|Load)"
    r"Dataset\w*|DatasetToTFRecord|(Save|Restore)(Slices?)?|LoadAndRemapMatrix|Debug\w*|DumpTensor"
    r"|GenerateVocabRemapping"
    r"|(De|En)codeProto\w*|ImmutableConst|SaveDataset\w*|\w*Snapshot\w*|_XlaHostCompute\w*"
)
_STREAMS = frozenset({"stdout", "stderr", "log(info)", "log(warning)", "log(error)"})
"""Where PrintV2 may write to; anything else is a file."""
_TABLES = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})


@cache
def _allowed() -> frozenset[str]:
    text = files("modelward.scan").joinpath("data/allowed_ops.txt").read_text("utf-8")
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))


def read(scanner: Scanner, item: Item) -> None:
    """Walk a SavedModel, a frozen graph, or the Keras metadata beside a SavedModel."""
    message = Message(item.blob, 0, item.blob.size, scanner.budget)
    if item.format == "keras_metadata":
        _keras_metadata(scanner, item, message)
    elif item.format == "graphdef":
        _graph(scanner, item, message)
    else:
        for one in message.fields():
            if one.number == 2:
                _meta_graph(scanner, item, message.child(one))


def _meta_graph(scanner: Scanner, item: Item, meta: Message) -> None:
    for one in meta.fields(2, 7):
        if one.number == 2:
            _graph(scanner, item, meta.child(one))
        elif one.number == 6:
            _asset(scanner, item, meta.child(one))
        elif one.number == 7:
            _objects(scanner, item, meta.child(one))


def _graph(scanner: Scanner, item: Item, graph: Message) -> None:
    functions: set[str] = set()
    graphs = [Graph("graph", graph)]
    for one in graph.fields(2):
        if one.number == 1:
            _node(graph.child(one), graphs[0])
        elif one.number == 2:
            library = graph.child(one)
            for inner in library.fields():
                if inner.number == 1:
                    found = _function(library.child(inner))
                    functions.add(found.name)
                    graphs.append(found)
    for found in graphs:
        _judge(scanner, item, found, functions)
    for place, name, operator in written_paths(graphs, scanner.budget):
        reason = f"{operator} with a path that is written into the graph"
        scanner.finding(item, "MW-TF-003", reason, where=f"{place}, node {name}")


def _function(function: Message) -> Graph:
    found = Graph("function ?", function)
    for one in function.fields(1):
        if one.number == 1:
            signature = function.child(one)
            for inner in signature.fields(1):
                if inner.number == 1:
                    found.place = f"function {signature.text(inner)}"
                elif inner.number == 2:
                    _argument(signature.child(inner), found)
        elif one.number == 3:
            _node(function.child(one), found)
    return found


def _argument(argument: Message, function: Graph) -> None:
    name = ""
    for one in argument.fields(1):
        if one.number == 1:
            name = argument.text(one)
        elif one.number in (5, 6):
            function.lists = True
    function.arguments.append(name)


def _node(node: Message, graph: Graph) -> None:
    name = operator = ""
    inputs: list[str] = []
    entries: list[Field] = []
    for one in node.fields(1, 2):
        if one.number == 1:
            name = node.text(one)
        elif one.number == 2:
            operator = node.text(one)
        elif one.number == 3:
            inputs.append(node.text(one))
        elif one.number == 5:
            entries.append(one)
    if name in graph.operators:
        name = f"{name} ({len(graph.operators)})"  # TensorFlow refuses it; all are judged
    graph.operators[name] = operator
    graph.inputs[name] = [text for text in inputs if not text.startswith("^")]
    graph.entries[name] = entries


def _print(scanner: Scanner, item: Item, graph: Graph, name: str) -> None:
    """PrintV2 writes to the address in its attribute ``output_stream``."""
    where = f"{graph.place}, node {name}"
    for key, value in graph.attributes(name):
        stream = "".join(value.text(one) for one in value.fields() if one.number == 2)
        if key == "output_stream" and stream not in _STREAMS:
            scanner.finding(item, "MW-TF-001", f"PrintV2 writes to {stream!r:.100}", where=where)


def _judge(scanner: Scanner, item: Item, graph: Graph, functions: set[str]) -> None:
    for name, operator in graph.operators.items():
        where = f"{graph.place}, node {name}"
        if _DANGEROUS.fullmatch(operator):
            reason = f"op {operator!r:.60}, which runs code or reaches files or the network"
            scanner.finding(item, "MW-TF-001", reason, where=where)
        elif operator in _TABLES:
            scanner.finding(item, "MW-TF-005", f"op {operator!r} reads a file", where=where)
        elif operator == "PrintV2":
            _print(scanner, item, graph, name)
        elif operator not in _allowed() and operator not in functions:
            scanner.finding(
                item, "MW-TF-002", f"op {operator!r:.60}, which is not known", where=where
            )


def _asset(scanner: Scanner, item: Item, asset: Message) -> None:
    for one in asset.fields():
        if one.number == 2 and (reason := bad_name(asset.text(one))):
            scanner.finding(item, "MW-TF-004", f"asset {asset.text(one)!r:.100} has {reason}")


def _objects(scanner: Scanner, item: Item, graph: Message) -> None:
    """Keras wrote its layers into the object graph before it had a file of their own."""
    for one in graph.fields():
        if one.number == 1:
            node = graph.child(one)
            for inner in node.fields(4):
                if inner.number == 4 and inner.wire == BYTES:
                    user = node.child(inner)
                    parts = {x.number: x for x in user.fields(1, 3) if x.wire == BYTES}
                    _layer(scanner, item, user, parts.get(1), parts.get(3))


def _keras_metadata(scanner: Scanner, item: Item, message: Message) -> None:
    for one in message.fields():
        if one.number == 1:
            node = message.child(one)
            parts = {x.number: x for x in node.fields(4, 5) if x.wire == BYTES}
            _layer(scanner, item, node, parts.get(4), parts.get(5))


def _layer(
    scanner: Scanner, item: Item, node: Message, kind: Field | None, metadata: Field | None
) -> None:
    if kind is None or metadata is None or not node.text(kind).startswith("_tf_keras"):
        return
    if metadata.value > MAX_METADATA:
        raise UnreadableError(f"metadata of a layer with {metadata.value} bytes")
    text = node.data(metadata, MAX_METADATA)
    if not text:
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"metadata of a layer is no readable JSON ({error})") from None
    if isinstance(value, dict):
        scan_config(scanner, item, value)
