"""Text: configurations, code, notes. Code is named as such; reading cannot clear it."""

import json
import re
from collections.abc import Iterator
from typing import Any

from modelward.scan.limits import UnreadableError
from modelward.scan.report import Level
from modelward.scan.scanner import Item, Scanner
from modelward.scan.sniff import python_of
from modelward.scan.templates import check_template

__all__ = ["check_containers", "read"]

MAX_JSON = 64 * 2**20
MAX_CONTAINERS = 3_000_000
_YAML_OBJECT = re.compile(
    rb"!!python/|tag:yaml\.org,2002:python/"
    # what composes such a tag: a handle of one's own, or letters written as %70
    # a line also begins behind a byte order mark, a lone carriage return, and U+0085, 2028, 2029
    rb"|(?:^|[\r\x85\xa8\xa9\xbf])%TAG\b"
    rb"|(?:^|[\s\[{,:?\x85\xa8\xa9\xbf-])![^\s%]{0,32}%[0-9A-Fa-f]{2}",
    re.MULTILINE,
)
_PROSE = frozenset({"txt", "md", "rst", "csv", "tsv", "log", "jinja", "jinja2", "j2"})
_ENTITY = re.compile(rb"<!(DOCTYPE|ENTITY)\b", re.IGNORECASE)
_SCRIPT = re.compile(
    # aten's functions are also methods of their first argument; blanks may stand around the dot
    rb"(\.|::)\s*(save|from_file)\s*\(|\btorch\s*\.\s*(load|save|from_file|hub|ops)\b"
    rb"|\bops\s*\.\s*(?!prim\b|aten\b|quantized\b|torchvision\b)\w+"
    rb"|\bops\s*\.\s*aten\s*\.\s*(save|from_file)\b"
)
_LOADER = re.compile(rb"""["']?loader_module["']?\s*:\s*["']?([^\s"',}#]+)""")
_POINTER = b"version https://git-lfs.github.com/spec/"
_KERAS_NODE = re.compile(rb'"class_name"\s*:|\\u')


def read(scanner: Scanner, item: Item) -> None:
    """Look at one text or bytecode file."""
    reader = {
        "json": _json, "yaml": _yaml, "xml": _xml, "source": _source, "pyc": _bytecode,
        "torchscript": _torchscript,
    }.get(item.format)  # fmt: skip
    suffix = item.name.lower().rpartition(".")[2]
    if item.blob.read(0, len(_POINTER)) == _POINTER:
        item.skips.append("a pointer of Git LFS, not the file itself: git lfs pull")
    if reader:
        reader(scanner, item)
    if suffix in ("yaml", "yml") and reader is not _yaml:
        _yaml(scanner, item)  # braces make JSON of some YAML, not of all
    elif item.name == "MLmodel":
        _yaml(scanner, item)
        _loader(scanner, item)
    elif suffix in ("jinja", "jinja2", "j2"):
        check_template(scanner, item, _whole(item).decode("utf-8", "replace"))
    elif item.format == "text" and suffix not in _PROSE:
        if item.blob.size <= MAX_JSON:  # a configuration of any name, or of none
            _yaml(scanner, item)


def _json(scanner: Scanner, item: Item) -> None:
    if item.blob.size > MAX_JSON:
        if b'"learner"' in item.blob.read(0, 64) and not _holds(item, _KERAS_NODE):
            return  # a large xgboost model: numbers, which only xgboost reads
        raise UnreadableError(f"a JSON document of {item.blob.size} bytes")
    content = item.blob.read(0, item.blob.size)
    check_containers(content)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        if item.name.endswith((".json", ".config")):
            raise UnreadableError(f"no readable JSON ({error})") from None
        return  # a text that starts with a bracket
    from modelward.scan.keras_scan import scan_config

    for node in _keras_nodes(scanner, value):
        scan_config(scanner, item, node)
    for template in _templates(scanner, value):
        check_template(scanner, item, template)


def _templates(scanner: Scanner, value: Any) -> Iterator[str]:
    """Every text below a key such as ``chat_template``: one, or several in a list or a table."""
    pending = [(value, False)]
    while pending:
        one, inside = pending.pop()
        if isinstance(one, str) and inside:
            yield one
        elif isinstance(one, dict):
            scanner.budget.spend("nodes")
            pending.extend((child, inside or "chat_template" in key) for key, child in one.items())
        elif isinstance(one, list):
            scanner.budget.spend("nodes")
            pending.extend((child, inside) for child in one if not isinstance(child, int | float))


def check_containers(text: bytes) -> None:
    """Refuse a JSON text that takes many times its size when it is read.

    Raises:
        UnreadableError: It has more lists and objects than the scan holds.
    """
    if text.count(b"[") + text.count(b"{") > MAX_CONTAINERS:
        raise UnreadableError(f"a JSON document of more than {MAX_CONTAINERS} lists and objects")


def _keras_nodes(scanner: Scanner, value: Any) -> Iterator[dict[str, Any]]:
    """The outermost Keras objects: Keras also builds those that it finds in lists and tables."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, dict) and "class_name" in one and "config" in one:
            yield one
        elif isinstance(one, dict | list):
            scanner.budget.spend("nodes")
            pending.extend(one.values() if isinstance(one, dict) else one)


def _holds(item: Item, pattern: re.Pattern[bytes]) -> bool:
    last = b""
    for chunk in item.blob.chunks():
        if pattern.search(last + chunk):
            return True
        last = chunk[-64:]
    return False


def _whole(item: Item) -> bytes:
    """A text that is searched as a whole, or not at all.

    Raises:
        UnreadableError: It is longer than a text of its kind is.
    """
    if item.blob.size > MAX_JSON:
        raise UnreadableError(f"a text of {item.blob.size} bytes")
    return item.blob.read(0, item.blob.size)


def _yaml(scanner: Scanner, item: Item) -> None:
    found = _YAML_OBJECT.search(_whole(item))
    if found:
        scanner.finding(item, "MW-YML-001", "a tag that makes Python objects", offset=found.start())


def _loader(scanner: Scanner, item: Item) -> None:
    """MLflow imports the module that a model's description names as its loader."""
    for found in _LOADER.finditer(_whole(item)):
        name = found[1].decode("utf-8", "replace")
        if not re.fullmatch(r"mlflow(\.[A-Za-z_]\w*)*", name):
            reason = f"MLflow would import {name!r:.100} and call it"
            scanner.finding(item, "MW-COD-001", reason, level=Level.MEDIUM, offset=found.start())


def _xml(scanner: Scanner, item: Item) -> None:
    found = _ENTITY.search(_whole(item))
    if found:
        scanner.finding(item, "MW-XML-001", "it brings its own document type", offset=found.start())


def _source(scanner: Scanner, item: Item) -> None:
    scanner.finding(item, "MW-COD-001", "program code in text form; the scan does not judge it")


def _bytecode(scanner: Scanner, item: Item) -> None:
    found = python_of(item.blob.read(0, 16))
    magic = int.from_bytes(item.blob.read(0, 2), "little")
    whose = f"Python {found}" if found else "an unknown Python"
    scanner.finding(
        item,
        "MW-COD-001",
        f"bytecode of {whose} (magic number {magic}), which is not judged",
    )
    item.skips.append("compiled code is not judged: run it in the sandbox only")


def _torchscript(scanner: Scanner, item: Item) -> None:
    found = _SCRIPT.search(_whole(item))
    if found:
        scanner.finding(
            item, "MW-TS-001", f"it calls {found[0].decode('ascii')!r}", offset=found.start()
        )
