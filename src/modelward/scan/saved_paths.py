"""Where the checkpoint ops of a TensorFlow graph write and read: followed through its functions.

A loader feeds the path of a checkpoint into a placeholder of the main graph; from there it goes
through calls into the function that saves or restores. A path that comes from anywhere else was
put there by whoever made the file. Fields: tensorflow/core/framework/{attr_value,tensor}.proto.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from modelward.scan.limits import Budget
from modelward.scan.places import bad_name
from modelward.scan.protobuf import BYTES, Field, Message

__all__ = ["Graph", "written_paths"]

_CHECKPOINT = {"SaveV2": 0, "RestoreV2": 0, "MergeV2Checkpoints": 1}
"""Which input of a checkpoint op is the path."""
_SHIFT = {
    "PartitionedCall": 0, "StatefulPartitionedCall": 0, "While": 0, "StatelessWhile": 0, "If": 1,
    "StatelessIf": 1, "Case": 1, "StatelessCase": 1, "For": 3,
}  # fmt: skip
"""Inputs in front of a function's arguments, of the ops that call functions."""
_MOST_SOURCES = 10_000
_MOST_DEFAULTS = 8
"""Placeholders that are each other's default; savers write two."""


@dataclass
class Graph:
    """Nodes of one graph or function, as far as a path can be followed through them."""

    place: str
    holder: Message
    """The message that all of it lies in."""
    operators: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, list[str]] = field(default_factory=dict)
    entries: dict[str, list[Field]] = field(default_factory=dict)
    """Attributes of each node by place, read only where they matter."""
    arguments: list[str] = field(default_factory=list)
    """Of a function, in order."""
    lists: bool = False
    """Whether an argument stands for several, so that they cannot be counted."""

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.place.removeprefix("function ")

    def attributes(self, node: str) -> Iterator[tuple[str, Message]]:
        """Names and values of a node's attributes."""
        for place in self.entries.get(node, []):
            entry = self.holder.child(place)
            key, value = "", None
            for one in entry.fields(1, 2):
                if one.number == 1:
                    key = entry.text(one)
                elif one.number == 2:
                    value = entry.child(one)
            if value is not None:
                yield key, value


def written_paths(graphs: list[Graph], budget: Budget) -> Iterator[tuple[str, str, str]]:
    """Places where a checkpoint op gets a path that no loader feeds.

    Args:
        graphs: The main graph and every function.
        budget: Pays for what is followed.

    Returns:
        Name of the graph, of the node, and its operator.
    """
    exposed: dict[str, set[str]] = {}
    """Arguments of functions that become a path."""
    reported: set[tuple[str, str]] = set()
    changed = True
    while changed:
        changed = False
        functions = {one.name: one for one in graphs if exposed.get(one.name)}
        for graph in graphs:
            for node, operator, index in _uses(graph, exposed, functions):
                budget.spend("nodes")
                literal, fed_by = _origin(graph, node, index, budget)
                if fed_by and graph.lists:
                    literal = True
                if literal and (graph.place, node) not in reported:
                    reported.add((graph.place, node))
                    yield graph.place, node, operator
                known = exposed.setdefault(graph.name, set())
                if not fed_by <= known and graph.place != "graph":
                    known |= fed_by
                    changed = True


def _uses(
    graph: Graph, exposed: dict[str, set[str]], functions: dict[str, Graph]
) -> Iterator[tuple[str, str, int]]:
    """Nodes with an input that becomes a path: node, operator, number of the input."""
    for node, operator in graph.operators.items():
        if operator in _CHECKPOINT:
            yield node, operator, _CHECKPOINT[operator]
        if not functions:
            continue
        for called in _called(graph, node, operator):
            function = functions.get(called)
            if function is None:
                continue
            for argument in sorted(exposed[called]):
                shift = 0 if operator == called else _SHIFT.get(operator)
                if shift is None or argument not in function.arguments:
                    yield node, operator, -1  # nobody knows with what it will be called
                else:
                    yield node, operator, function.arguments.index(argument) + shift


def _called(graph: Graph, node: str, operator: str) -> set[str]:
    """Functions that a node names."""
    found = {operator}
    for _, value in graph.attributes(node):
        for one in value.fields(1, 10):
            if one.number == 10 and one.wire == BYTES:
                found |= _names(value.child(one))
            elif one.number == 1 and one.wire == BYTES:
                several = value.child(one)
                for inner in several.fields():
                    if inner.number == 9 and inner.wire == BYTES:
                        found |= _names(several.child(inner))
    return found


def _names(function: Message) -> set[str]:
    return {function.text(one) for one in function.fields() if one.number == 1}


def _origin(graph: Graph, node: str, index: int, budget: Budget) -> tuple[bool, set[str]]:
    """Whether an input comes from the graph alone, and the function's arguments it comes from."""
    inputs = graph.inputs.get(node, [])
    if not 0 <= index < len(inputs):
        return index < 0, set()
    pending, seen, fed_by = [inputs[index]], set(), set()
    while pending:
        source = pending.pop().partition(":")[0]
        if source in seen:
            continue
        seen.add(source)
        budget.spend("nodes")
        operator = graph.operators.get(source)
        if operator is None:
            fed_by.add(source)
        elif operator == "PlaceholderWithDefault":
            if _is_plain_default(graph, source):
                return False, set()
        elif operator.startswith("Placeholder"):
            return False, set()
        else:
            pending += graph.inputs[source]
        if len(seen) > _MOST_SOURCES:
            return True, set()
    return not fed_by, fed_by


def _is_plain_default(graph: Graph, node: str) -> bool:
    """Whether a placeholder's default is a relative name, as older savers write ("model")."""
    source = node
    for _ in range(_MOST_DEFAULTS):
        source = next(iter(graph.inputs.get(source, [])), "").partition(":")[0]
        if graph.operators.get(source) not in ("Identity", "PlaceholderWithDefault"):
            break
    if graph.operators.get(source) != "Const":
        return False
    texts = [
        value.text(one)
        for key, attribute in graph.attributes(source)
        if key == "value"
        for tensor in attribute.fields()
        if tensor.number == 8
        for value in [attribute.child(tensor)]
        for one in value.fields()
        if one.number == 8
    ]
    return bool(texts) and not any(bad_name(text) or ":" in text or not text for text in texts)
