"""Text: configurations, code, notes. Code is named as such; reading cannot clear it."""

import json
import re

from modelward.scan.limits import UnreadableError
from modelward.scan.scanner import Item, Scanner
from modelward.scan.sniff import python_of

__all__ = ["read"]

MAX_JSON = 64 * 2**20
_YAML_OBJECT = re.compile(rb"!!python/|tag:yaml\.org,2002:python/")
_ENTITY = re.compile(rb"<!(DOCTYPE|ENTITY)\b", re.IGNORECASE)
_SCRIPT = re.compile(rb"\b(torch\.(load|save|from_file|hub|ops)|aten::(save|from_file)|"
                     rb"ops\.(?!prim\b|aten\b|quantized\b|torchvision\b)\w+)")  # fmt: skip
_TEMPLATE = re.compile(r"__\w+__|\|\s*attr\s*\(|\b(cycler|joiner|lipsum)\s*[.\[]")


def read(scanner: Scanner, item: Item) -> None:
    """Look at one text or bytecode file."""
    reader = {
        "json": _json, "yaml": _yaml, "xml": _xml, "source": _source, "pyc": _bytecode,
        "torchscript": _torchscript,
    }.get(item.format)  # fmt: skip
    if reader:
        reader(scanner, item)


def _json(scanner: Scanner, item: Item) -> None:
    if item.blob.size > MAX_JSON:
        if b'"learner"' in item.blob.read(0, 64):
            return  # a large xgboost model: numbers, which only xgboost reads
        raise UnreadableError(f"a JSON document of {item.blob.size} bytes")
    try:
        value = json.loads(item.blob.read(0, item.blob.size))
    except (ValueError, RecursionError) as error:
        if item.name.endswith((".json", ".config")):
            raise UnreadableError(f"no readable JSON ({error})") from None
        return  # a text that starts with a bracket
    if isinstance(value, dict):
        if isinstance(value.get("class_name"), str) and "config" in value:
            from modelward.scan.keras_scan import scan_config

            scan_config(scanner, item, value)
        template = value.get("chat_template")
        if isinstance(template, str):
            check_template(scanner, item, template)


def check_template(scanner: Scanner, item: Item, template: str) -> None:
    """A chat template is a program for jinja2; outside its sandbox it reaches all of Python."""
    found = _TEMPLATE.search(template)
    if found:
        scanner.finding(item, "MW-TPL-001", f"the chat template contains {found[0]!r}")


def _yaml(scanner: Scanner, item: Item) -> None:
    found = _YAML_OBJECT.search(item.blob.read(0, MAX_JSON))
    if found:
        scanner.finding(item, "MW-YML-001", "a tag that makes Python objects", offset=found.start())


def _xml(scanner: Scanner, item: Item) -> None:
    found = _ENTITY.search(item.blob.read(0, MAX_JSON))
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


def _torchscript(scanner: Scanner, item: Item) -> None:
    found = _SCRIPT.search(item.blob.read(0, MAX_JSON))
    if found:
        scanner.finding(
            item, "MW-TS-001", f"it calls {found[0].decode('ascii')!r}", offset=found.start()
        )
