"""The scan itself: each file is told by its content and handed to the reader of its kind."""

import importlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from modelward._version import __version__
from modelward.data import is_litter
from modelward.domain import InvalidInputError
from modelward.scan.blob import Blob
from modelward.scan.limits import Budget, Limits, UnreadableError
from modelward.scan.lookalike import as_pickle, is_pickle_text
from modelward.scan.report import Finding, Level, Outcome, Part, ScanReport, printable
from modelward.scan.rules import RULES
from modelward.scan.sniff import ends_as_zip, sniff

__all__ = ["Item", "Scanner", "scan_path"]

_READERS = {
    "zip": "zips", "tar": "tars",
    "gzip": "compressed", "bzip2": "compressed", "xz": "compressed", "lzma": "compressed",
    "zlib": "compressed",
    "pickle": "pickle_scan", "torchscript_pickle": "pickle_scan", "npy": "npy",
    "hdf5": "hdf5_scan", "json": "documents", "yaml": "documents", "xml": "documents",
    "text": "documents", "source": "documents", "pyc": "documents",
    "torchscript": "documents",
    "onnx": "onnx_scan", "savedmodel": "savedmodel", "graphdef": "savedmodel",
    "keras_metadata": "savedmodel", "safetensors": "safetensors_scan", "gguf": "gguf",
    "tensor": "tensors",
}  # fmt: skip
_PASSED = frozenset(
    {"empty", "image", "xgboost_ubj", "tf_checkpoint_index", "protobuf", "sentencepiece"}
)
_UNREADABLE = {
    "pbtxt": "graphs in text form are not read; save them in binary form",
    "7z": "7z archives are not read; unpack it and scan the files",
    "rar": "rar archives are not read; unpack it and scan the files",
    "lz4": "lz4 streams are not read; save without compression or with zlib",
    "zstd": "zstd streams are not read; save without compression or with zlib",
}
_PICKLES = frozenset({"pickle", "gzip", "bzip2", "xz", "lzma", "zlib", "lz4"})
_EXPECTED = {
    ".pkl": _PICKLES | {"zip"}, ".pickle": _PICKLES | {"zip"}, ".joblib": _PICKLES,
    ".pt": {"zip", "pickle", "tar"},
    ".pth": {"zip", "pickle", "tar"}, ".npy": {"npy"}, ".npz": {"zip"},
    ".h5": {"hdf5"}, ".hdf5": {"hdf5"}, ".keras": {"zip"}, ".onnx": {"onnx"}, ".zip": {"zip"},
    ".tar": {"tar"}, ".gz": {"gzip"}, ".tgz": {"gzip"}, ".bz2": {"bzip2"}, ".xz": {"xz"},
    ".z": {"zlib"}, ".7z": {"7z"}, ".safetensors": {"safetensors"}, ".gguf": {"gguf"},
    ".pb": {"savedmodel", "graphdef", "keras_metadata", "protobuf"},
    ".json": {"json", "empty"}, ".pmml": {"xml"}, ".xml": {"xml"}, ".csv": {"text", "empty"},
    ".txt": {"text", "json", "empty"}, ".md": {"text", "empty"},
    ".yaml": {"yaml", "text", "json", "empty"}, ".yml": {"yaml", "text", "json", "empty"},
    ".py": {"source", "empty"}, ".pyc": {"pyc"}, ".tflite": {"tflite"}, ".png": {"image"},
    ".jpg": {"image"}, ".jpeg": {"image"}, ".gif": {"image"}, ".bmp": {"image"},
    ".webp": {"image"}, ".index": {"tf_checkpoint_index"},
}  # fmt: skip
_TEXTS = frozenset({".json", ".yaml", ".yml", ".csv", ".txt", ".md", ".py", ".index"})
_BY_NAME = {"saved_model.pb": "savedmodel", "keras_metadata.pb": "keras_metadata"}
_DANGEROUS = _PICKLES | {"pyc", "native", "source", "savedmodel", "npy"}


@dataclass
class Item:
    """One file or archive member while it is looked at."""

    path: str
    blob: Blob
    depth: int = 0
    role: str | None = None
    """What its place in an archive says it is, such as ``tensor`` or ``torchscript``."""
    format: str = "unknown"
    errors: list[str] = field(default_factory=list)
    skips: list[str] = field(default_factory=list)
    packages: set[str] = field(default_factory=set)
    """First parts of the module names in a pickle, all of its streams together."""

    def __post_init__(self) -> None:
        self.path = printable(self.path)

    @property
    def name(self) -> str:
        """File name without folders."""
        return self.path.rpartition("!")[2].rpartition("/")[2]


_NOTHING = Blob.of_bytes(b"")
MAX_FINDINGS = 10_000
"""Of one severity: a flood of small ones must not wash a grave one away."""


class Scanner:
    """State of one scan; readers report to it.

    Attributes:
        budget: Pays for everything.
        beside: Paths that a model refers to as its data, with the model.
        no_opinion: Pickles that the second scanner could not judge.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.budget = Budget(limits)
        self.findings: dict[tuple[object, ...], Finding] = {}
        self.items: list[Item] = []
        self.notes: list[str] = []
        self.beside: dict[str, Item] = {}
        self.no_opinion = 0
        self._kept: Counter[Level] = Counter()

    def finding(
        self,
        item: Item,
        rule: str,
        reason: str,
        *,
        level: Level | None = None,
        offset: int | None = None,
        where: str | None = None,
        also: tuple[str, ...] = (),
    ) -> None:
        """Report something that should not be there; the same again is reported once."""
        known = RULES[rule]
        found = Finding(
            rule, level or known.level, item.path, printable(reason[:500]), offset,
            printable(where[:120]) if where else None, (*known.references, *also),
        )  # fmt: skip
        key = (rule, item.path, reason, where)
        if key not in self.findings and self._kept[found.severity] < MAX_FINDINGS:
            self._kept[found.severity] += 1
            self.findings[key] = found

    def scan(self, path: str, blob: Blob, depth: int = 0, role: str | None = None) -> Item:
        """Tell one file or member by its content and have it read."""
        item = Item(path, blob, depth, role)
        self.items.append(item)
        try:
            self.budget.spend("files")
            if depth > self.limits.depth:
                raise UnreadableError(f"nested deeper than {self.limits.depth} archives")
            item.format = role or self._tell(item)
            self._check_name(item)
            self._check_polyglot(item)
            self._check_tail(item)
            self._read(item)
        except UnreadableError as error:
            item.errors.append(str(error))
        except (Exception, RecursionError, MemoryError) as error:
            # whatever a reader stumbles over is a part that was not read
            item.errors.append(f"not readable: {type(error).__name__}: {error}"[:300])
        item.blob = _NOTHING  # the bytes may be a temporary file, and there may be many
        return item

    def _tell(self, item: Item) -> str:
        """The format by content, or by name where the loader goes by that name alone."""
        if item.name in _BY_NAME:
            return _BY_NAME[item.name]
        if item.name.endswith(".pbtxt"):
            return "pbtxt"
        found = sniff(item.blob, item.name)
        if found in ("text", "unknown", "json", "yaml", "source"):
            named = _suffix(item.name) in (".pkl", ".pickle", ".joblib")
            return "pickle" if named or is_pickle_text(item.blob, self.budget) else found
        return found

    def _check_polyglot(self, item: Item) -> None:
        """Another format may begin with opcodes that pickle.load would execute."""
        if item.format in ("pickle", "torchscript_pickle", "empty", "tensor"):
            return
        harm, called = as_pickle(item.blob, self.budget)
        for name in harm:
            reason = f"read as a pickle, this {item.format} file names {name!r:.100}"
            self.finding(item, "MW-FMT-002", reason, level=Level.CRITICAL)
        if called and not harm:
            reason = f"read as a pickle, this {item.format} file calls functions"
            self.finding(item, "MW-FMT-002", reason)
            self.scan(f"{item.path}!pickle", item.blob, item.depth + 1, "pickle")

    def _read(self, item: Item) -> None:
        if item.format in _UNREADABLE:
            item.errors.append(_UNREADABLE[item.format])
        elif item.format == "native":
            self.finding(item, "MW-FMT-005", "the file is a program or a library")
        elif item.format in _READERS:
            module = importlib.import_module(f"modelward.scan.{_READERS[item.format]}")
            read: Callable[[Scanner, Item], None] = module.read
            read(self, item)
        elif item.format not in _PASSED:
            item.skips.append(f"no reader for this format ({item.format})")

    def _check_name(self, item: Item) -> None:
        expected = _EXPECTED.get(_suffix(item.name))
        if item.role or expected is None or item.format in expected:
            return
        words = item.format == "text" and _suffix(item.name) not in _TEXTS
        if words or item.format in ("unknown", "empty"):
            if not is_litter(item.path.rsplit("!", 1)[-1]):
                content = "an empty file" if item.format == "empty" else "the content"
                item.errors.append(f"{content} is not what {item.name[-20:]!r} says: damaged?")
            return
        level = Level.MEDIUM if item.format in _DANGEROUS else Level.LOW
        self.finding(item, "MW-FMT-001", f"the content is {item.format}", level=level)

    def _check_tail(self, item: Item) -> None:
        """A zip archive is found from its end: another format may stand in front of it."""
        if item.format in ("zip", "tensor", "empty"):
            return
        if ends_as_zip(item.blob):
            self.finding(item, "MW-FMT-002", f"{item.format} in front of a zip archive")
            inner = Item(f"{item.path}!zip", item.blob, item.depth + 1, "zip", "zip")
            self.items.append(inner)
            try:
                importlib.import_module("modelward.scan.zips").read(self, inner)
            except UnreadableError as error:
                inner.errors.append(str(error))
            inner.blob = _NOTHING

    def spool(self) -> "tempfile.SpooledTemporaryFile[bytes]":
        """A temporary file for unpacked bytes; small ones stay in memory."""
        return tempfile.SpooledTemporaryFile(max_size=8 * 2**20)

    def report(self, target: str, seconds: float) -> ScanReport:
        """Close the scan."""
        known = {item.path for item in self.items}
        for path, owner in self.beside.items():
            if path not in known:
                owner.skips.append(f"its data file {path!r} was not there to be scanned")
        if self.no_opinion:
            self.notes.append(f"fickling gave no opinion on {self.no_opinion} pickles")
        found = {finding.path for finding in self.findings.values()}
        parts = tuple(_part(item, item.path in found, self.beside) for item in self.items)
        versions = {"modelward": __version__}
        for name in ("fickling", "h5py"):
            try:
                versions[name] = version(name)
            except PackageNotFoundError:
                continue
        findings = sorted(
            self.findings.values(), key=lambda f: (-f.severity.rank, f.path, f.offset or 0)
        )
        return ScanReport(
            target, parts, tuple(findings), seconds, versions, tuple(dict.fromkeys(self.notes))
        )


def _suffix(name: str) -> str:
    """Lower-case extension with its dot, or the empty text."""
    stem, dot, last = name.rpartition(".")
    return f".{last.lower()}" if dot and stem else ""


def _part(item: Item, found: bool, beside: dict[str, Item]) -> Part:
    if item.path in beside and item.format == "unknown" and not item.errors:
        return Part(item.path, "tensor", Outcome.FINDING if found else Outcome.PASSED)
    # a finding does not make up for what was not read
    outcome = (
        Outcome.ERROR
        if item.errors
        else Outcome.SKIPPED
        if item.skips
        else Outcome.FINDING
        if found
        else Outcome.PASSED
    )
    reasons = tuple(map(printable, (*item.errors, *item.skips)))
    return Part(item.path, item.format, outcome, reasons)


def scan_path(path: Path, *, limits: Limits | None = None) -> ScanReport:
    """Scan a file or a folder without loading anything in it.

    Args:
        path: A model file, an archive, or a folder (a SavedModel, an MLflow model).
        limits: How much the scan may unpack and wait; None: as befits the size of the target.

    Returns:
        Findings, and for every file and archive member how it ended.

    Raises:
        InvalidInputError: There is no such file or folder.
    """
    if not path.exists():
        raise InvalidInputError(f"scan: expected a file or folder; got {path}, which is not there")
    began = time.monotonic()
    scanner = Scanner(limits or Limits.of_path(path))
    if path.is_dir():
        importlib.import_module("modelward.scan.folders").read(scanner, path)
    elif path.is_file():
        with path.open("rb") as file:
            scanner.scan(path.name, Blob.of_file(file))
    else:
        raise InvalidInputError(f"scan: expected a file or folder; got {path}, a special file")
    return scanner.report(str(path), time.monotonic() - began)
