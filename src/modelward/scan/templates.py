"""Chat templates: programs for jinja2, which outside its sandbox reach all of Python.

The way out leads through an attribute such as ``__class__``. Where the template does not spell it,
it puts it together while it runs, and looks it up by brackets or by a filter: so a lookup whose
name is put together is a finding, whatever the name may be.
"""

import re
from collections import defaultdict
from typing import Any

from modelward.scan.limits import UnreadableError
from modelward.scan.scanner import Item, Scanner

__all__ = ["check_template"]

MAX_TEMPLATE = 2**20
_MOST_STEPS = 200_000
_SPELLED = re.compile(
    r"__\w+__|\|\s*attr\s*\(|\b(cycler|joiner|lipsum)\s*[.\[]"
    # underscores that are written otherwise, to be put together while it runs
    r"|\\x5f|\\u005f|\\137|\\N\{|(['\"])__+\2", re.IGNORECASE
)  # fmt: skip
_GENERATION = re.compile(r"\{%[-+]?\s*(end)?generation\s*[-+]?%\}")
"""A tag of Hugging Face's own, around what the model said."""
_FILTERS = frozenset(
    """
    batch capitalize center e escape first forceescape format indent join last lower pprint random
    replace reverse safe slice string striptags title tojson trim truncate upper urlencode
    wordwrap xmlattr
    """.split()
)
_METHODS = frozenset(
    """
    capitalize casefold center decode encode expandtabs format format_map join ljust lower lstrip
    partition removeprefix removesuffix replace rjust rpartition rsplit rstrip split splitlines
    strip swapcase title translate upper zfill
    """.split()
)
_BY_NAME = frozenset({"groupby", "map", "max", "min", "rejectattr", "selectattr", "sort", "sum",
                      "unique"})  # fmt: skip
"""Filters that look attributes up."""


def check_template(scanner: Scanner, item: Item, template: str) -> None:
    """Report a template that reaches for more than what it is given.

    Raises:
        UnreadableError: It is longer or deeper than a template is.
    """
    if len(template) > MAX_TEMPLATE:
        raise UnreadableError(f"a chat template of more than {MAX_TEMPLATE} bytes")
    found = _SPELLED.search(template)
    if found:
        scanner.finding(item, "MW-TPL-001", f"the chat template contains {found[0]!r}")
        return
    try:
        reason = _Lookups(template).problem()
    except ImportError:
        scanner.notes.append("jinja2 is not installed, so chat templates were only searched")
        return
    except RecursionError:
        raise UnreadableError("a chat template of absurd depth") from None
    if reason:
        scanner.finding(item, "MW-TPL-001", f"the chat template {reason}")


class _Lookups:
    """Follows the names that a template looks up back to where they come from."""

    def __init__(self, template: str) -> None:
        from jinja2 import Environment, TemplateSyntaxError, nodes

        self.nodes = nodes
        self.values: defaultdict[tuple[str, str | None], list[Any]] = defaultdict(list)
        self.steps = 0
        extensions = ["jinja2.ext.loopcontrols", "jinja2.ext.do", "jinja2.ext.i18n"]
        try:
            self.tree = Environment(extensions=extensions).parse(_GENERATION.sub("", template))  # noqa: S701 - nothing is rendered
        except TemplateSyntaxError:
            self.tree = nodes.Template([])  # nobody renders it

    def problem(self) -> str | None:
        """What is wrong; None: nothing."""
        n = self.nodes
        for node in self.tree.find_all((n.Include, n.Import, n.FromImport, n.Extends)):
            return f"reads another file ({type(node).__name__.lower()})"
        for node in self.tree.find_all(n.Const):
            if isinstance(node.value, str) and re.search(r"__\w+__", node.value):
                return "spells an attribute in escaped letters"
        self._collect()
        for node in self.tree.find_all(n.Getitem):
            if self._made(node.arg, frozenset()):
                return "looks up a name that it puts together"
        for node in self.tree.find_all(n.Filter):
            if node.name in _BY_NAME and self._by_name(node):
                return f"looks up a name that it puts together, by the filter {node.name}"
        return None

    def _by_name(self, node: Any) -> bool:
        names = [pair.value for pair in node.kwargs if pair.key == "attribute"]
        names += node.args if node.name == "map" else node.args[:1]
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            return True
        if node.name == "map" and node.args:
            first = node.args[0]
            if not isinstance(first, self.nodes.Const) or first.value == "attr":
                return True
        return any(self._made(name, frozenset()) for name in names)

    def _collect(self) -> None:
        """Where each variable gets its values."""
        n = self.nodes
        calls = list(self.tree.find_all(n.Call))
        for node in self.tree.find_all((n.Assign, n.AssignBlock, n.For, n.With, n.Macro)):
            if isinstance(node, n.Assign):
                self._assign(node.target, node.node)
            elif isinstance(node, n.AssignBlock):
                self._assign(node.target, n.Concat([]))
            elif isinstance(node, n.For):
                self._assign(node.target, node.iter)
            elif isinstance(node, n.With):
                for target, value in zip(node.targets, node.values, strict=True):
                    self._assign(target, value)
            else:
                given = [
                    value
                    for call in calls
                    if isinstance(call.node, n.Name) and call.node.name == node.name
                    for value in (*call.args, *(pair.value for pair in call.kwargs))
                ]
                for parameter in node.args:
                    self.values[parameter.name, None] += [*given, *node.defaults]

    def _assign(self, target: Any, value: Any) -> None:
        n = self.nodes
        if isinstance(target, n.Tuple):
            for inner in target.items:
                self._assign(inner, value)
        elif isinstance(target, n.NSRef):
            self.values[target.name, target.attr].append(value)
        else:
            self.values[target.name, None].append(value)
            if isinstance(value, n.Call):  # namespace(key=...)
                for pair in value.kwargs:
                    self.values[target.name, pair.key].append(pair.value)

    def _sources(self, node: Any, seen: frozenset[Any]) -> list[tuple[Any, frozenset[Any]]]:
        """What a variable, or a field of one, may hold."""
        n = self.nodes
        key: tuple[str, str | None] | None = None
        if isinstance(node, n.Name):
            key = (node.name, None)
        elif isinstance(node, n.Getattr) and isinstance(node.node, n.Name):
            key = (node.node.name, node.attr)
            if key not in self.values:
                key = (node.node.name, None)
        if key is None or key in seen:
            return []
        values = [v for v in self.values[key] if not self._is_namespace(v)]
        return [(value, seen | {key}) for value in values]

    def _is_namespace(self, node: Any) -> bool:
        n = self.nodes
        return (
            isinstance(node, n.Call) and isinstance(node.node, n.Name)
            and node.node.name == "namespace"
        )  # fmt: skip

    def _made(self, node: Any, seen: frozenset[Any]) -> bool:
        """Whether an expression may be a text that is put together."""
        n = self.nodes
        self._step()
        if isinstance(node, n.Concat) or (isinstance(node, n.Filter) and node.name in _FILTERS):
            return True
        if isinstance(node, n.Call):
            method = isinstance(node.node, n.Getattr) and node.node.attr in _METHODS
            return method or any(self._made(one, seen) for one in node.args)
        if isinstance(node, n.Add | n.Mul | n.Mod) and (
            self._text(node.left, seen) or self._text(node.right, seen)
        ):
            return True
        if isinstance(node, n.Getitem) and self._text(node.node, seen):
            return True
        if any(self._made(value, inner) for value, inner in self._sources(node, seen)):
            return True
        return any(self._made(child, seen) for child in node.iter_child_nodes())

    def _text(self, node: Any, seen: frozenset[Any]) -> bool:  # noqa: PLR0911 - one per kind
        """Whether an expression is a text that stands in the template."""
        n = self.nodes
        self._step()
        if isinstance(node, n.Const):
            return isinstance(node.value, str)
        if isinstance(node, n.Concat | n.TemplateData):
            return True
        if isinstance(node, n.Add | n.Mul | n.Mod):
            return self._text(node.left, seen) or self._text(node.right, seen)
        if isinstance(node, n.List | n.Tuple):
            return any(self._text(one, seen) for one in node.items)
        if isinstance(node, n.Filter) and node.node is not None:
            return node.name in _FILTERS or self._text(node.node, seen)
        if isinstance(node, n.CondExpr):
            return any(self._text(one, seen) for one in (node.expr1, node.expr2) if one)
        return any(self._text(value, inner) for value, inner in self._sources(node, seen))

    def _step(self) -> None:
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise UnreadableError("a chat template of too many names")
