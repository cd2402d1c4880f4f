"""ONNX models: operators outside the standard, and data that lies outside the model's folder.

Read field by field from the protobuf message (onnx/onnx.proto, IR version 13), without the onnx
package, so that a model of any size takes little memory.
"""

from typing import NamedTuple

from modelward.scan.limits import UnreadableError, count_of
from modelward.scan.places import bad_name
from modelward.scan.protobuf import BYTES, Field, Message
from modelward.scan.report import Level, printable
from modelward.scan.scanner import Item, Scanner

__all__ = ["read"]

MAX_VALUES = 2**36
MAX_DEPTH = 40
_STANDARD = frozenset(
    {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training"}
)
_RUNTIME = frozenset({"com.microsoft", "com.microsoft.nchwc"})
"""Built into ONNX Runtime: no other program knows them, but they come with no library either."""


_RUNTIME_CODE = frozenset({"ATen", "EPContext", "PythonOp", "PythonOpGrad", "Snpe"})
"""Of those, the ones that run code or engines from elsewhere."""


class _Node(NamedTuple):
    domain: str
    operator: str
    name: str


def read(scanner: Scanner, item: Item) -> None:
    """Walk the model, its functions and all graphs in them."""
    model = Message(item.blob, 0, item.blob.size, scanner.budget)
    nodes: list[_Node] = []
    local: set[tuple[str, str]] = set()
    walker = _Walker(scanner, item, nodes)
    for field in model.fields():
        if field.number == 7:
            walker.graph(model.child(field), 0)
        elif field.number == 20:
            training = model.child(field)
            for inner in training.fields():
                if inner.number in (1, 2):
                    walker.graph(training.child(inner), 0)
        elif field.number == 25:
            local.add(walker.function(model.child(field)))
    for node in nodes:
        if node.domain in _STANDARD or (node.domain, node.operator) in local:
            continue
        runtime = node.domain in _RUNTIME and node.operator not in _RUNTIME_CODE
        scanner.finding(
            item, "MW-ONX-001", f"operator {node.operator!r:.60} of {node.domain!r:.60}",
            level=Level.LOW if runtime else None, where=f"node {node.name}" if node.name else None,
        )  # fmt: skip


class _Walker:
    """Collects the nodes of nested graphs and looks at every tensor."""

    def __init__(self, scanner: Scanner, item: Item, nodes: list[_Node]) -> None:
        self.scanner, self.item, self.nodes = scanner, item, nodes

    def graph(self, graph: Message, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise UnreadableError(f"graphs nested deeper than {MAX_DEPTH}")
        for field in graph.fields():
            if field.number == 1:
                self.node(graph.child(field), depth)
            elif field.number == 5:
                self.tensor(graph.child(field))
            elif field.number == 15:
                self.sparse(graph.child(field))

    def function(self, function: Message) -> tuple[str, str]:
        name = domain = ""
        for field in function.fields():
            if field.number == 1:
                name = function.text(field)
            elif field.number == 10:
                domain = function.text(field)
            elif field.number == 7:
                self.node(function.child(field), 0)
            elif field.number == 11:
                self.attribute(function.child(field), 0)
        return domain, name

    def node(self, node: Message, depth: int) -> None:
        texts = {3: "", 4: "", 7: ""}
        for field in node.fields():
            if field.number in texts and field.wire == BYTES:
                texts[field.number] = node.text(field)
            elif field.number == 5:
                self.attribute(node.child(field), depth)
        self.nodes.append(_Node(texts[7], texts[4], texts[3]))

    def attribute(self, attribute: Message, depth: int) -> None:
        for field in attribute.fields():
            if field.number in (5, 10):
                self.tensor(attribute.child(field))
            elif field.number in (6, 11):
                self.graph(attribute.child(field), depth + 1)
            elif field.number in (22, 23):
                self.sparse(attribute.child(field))

    def sparse(self, tensor: Message) -> None:
        for field in tensor.fields():
            if field.number in (1, 2):
                self.tensor(tensor.child(field))

    def tensor(self, tensor: Message) -> None:
        dims: list[int] = []
        name, outside = "", False
        locations: list[str] = []
        for field in tensor.fields():
            if field.number == 1:
                dims += _dims(tensor, field)
            elif field.number == 8:
                name = tensor.text(field)
            elif field.number == 13:
                key, value = _entry(tensor.child(field))
                locations += [value] if key == "location" else []
            elif field.number == 14:
                outside = field.value == 1
        where = f"tensor {name}" if name else None
        if dims and (min(dims) < 0 or count_of(dims) > MAX_VALUES):
            self.scanner.finding(
                self.item, "MW-ONX-003", f"a tensor of {dims[:8]} values", where=where
            )
        for location in locations or [""] * outside:
            self.outside(location, where)

    def outside(self, location: str, where: str | None) -> None:
        reason = "no name at all" if not location else bad_name(location)
        if reason:
            self.scanner.finding(
                self.item, "MW-ONX-002", f"data in {location!r:.100}, which has {reason}",
                where=where,
            )  # fmt: skip
        else:
            front, mark, inside = self.item.path.rpartition("!")
            folder = inside.rpartition("/")[0]
            path = f"{folder}/{location}" if folder else location
            self.scanner.beside[printable(f"{front}{mark}{path}")] = self.item


def _dims(tensor: Message, field: Field) -> list[int]:
    if field.wire != BYTES:
        return [field.value - 2**64 if field.value >= 2**63 else field.value]
    values, value, shift = [], 0, 0
    for byte in tensor.data(field):  # packed
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            values.append(value - 2**64 if value >= 2**63 else value)
            value = shift = 0
    return values


def _entry(entry: Message) -> tuple[str, str]:
    texts = {1: "", 2: ""}
    for field in entry.fields():
        if field.number in texts:
            texts[field.number] = entry.text(field)
    return texts[1], texts[2]
