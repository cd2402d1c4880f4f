"""The readers of uploads behind one face: bytes in, nothing or a refusal out.

The property tests, the limits' child process and the harnesses in ``tests/fuzz`` share them.
"""

import io
import json
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelward.data import check_image_extraction
from modelward.data.archive import Archive
from modelward.data.headers import read_header
from modelward.data.labels import read_labels
from modelward.domain import (
    AssessmentError,
    ImageExtractionConfig,
    InvalidInputError,
    ModelwardError,
    parse_image_extraction,
)
from modelward.scan import (
    Limits,
    Outcome,
    ScanReport,
    Verdict,
    check_config,
    check_hdf5,
    parse_config,
    scan_path,
)

__all__ = ["READERS", "keras_zip", "refused", "zipped"]

CONFIG = ImageExtractionConfig(input_shape=(8, 8, 1), number_of_classes=3)
_SLOTS = ("data", "label", "model")
LIMITS = Limits(unpacked_bytes=256 * 2**20, opcodes=2_000_000, nodes=500_000, seconds=8)
PIECE = 2**20


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive in memory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def keras_zip(config: bytes) -> bytes:
    """A .keras file with this configuration."""
    weights = b"\x89HDF\r\n\x1a\n" + bytes(100)
    return zipped({"metadata.json": b"{}", "config.json": config, "model.weights.h5": weights})


def _file(content: bytes, read: Callable[[Path], Any], name: str = "upload.bin") -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        return read(path)


def read_zip(content: bytes) -> None:
    """Directory and entries; what an entry gives is what it declares."""

    def read(path: Path) -> None:
        with Archive(path) as archive:
            for entry in archive.listing.files[:50]:
                raw = archive.read(entry, PIECE)
                if len(raw) != min(PIECE, entry.size):
                    raise RuntimeError(f"{entry}: expected its bytes or an error; got {len(raw)}")
                if entry.name.startswith("/") or ".." in entry.name.split("/"):
                    raise RuntimeError(f"{entry}: expected a name inside the archive")

    _file(content, read)


def read_label_zip(content: bytes) -> None:
    """The label table of an archive."""

    def read(path: Path) -> None:
        with Archive(path) as archive:
            labels = read_labels(archive, 3)
        if not labels or not set(labels.values()) <= {0, 1, 2}:
            raise RuntimeError(f"expected labels of three classes; got {labels}")

    _file(content, read)


def read_csv(content: bytes) -> None:
    """A label table of any bytes in a sound archive."""
    read_label_zip(zipped({"label.csv": content}))


def read_image(content: bytes) -> None:
    """The size in an image's first bytes; ValueError is its refusal."""
    try:
        header = read_header(content)
    except ValueError as error:
        raise InvalidInputError(str(error)) from None
    if header and (header.height < 0 or header.format not in ("PNG", "JPEG", "BMP", "GIF", "WEBP")):
        raise RuntimeError(f"expected a size; got {header}")


def read_gate(content: bytes) -> None:
    """One archive in all three slots, as the service looks at it before it takes a job."""
    _file(content, lambda path: check_image_extraction(CONFIG, dict.fromkeys(_SLOTS, path)))


def read_config(content: bytes) -> None:
    """The configuration of a Keras model."""
    check_config(parse_config(content))


def read_hdf5(content: bytes) -> None:
    """What an HDF5 file of weights holds; the library's own refusals are OSErrors and the like."""

    def read(path: Path) -> None:
        import h5py

        try:
            with h5py.File(path, "r") as file:
                check_hdf5(file, len(content))
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise InvalidInputError(f"hdf5: {error}"[:1000]) from None

    _file(content, read, "weights.h5")


def read_payload(content: bytes) -> None:
    """The parameters of an analysis, from whatever JSON object came."""
    try:
        payload = json.loads(content)
    except (ValueError, RecursionError):
        return
    if isinstance(payload, dict):
        parse_image_extraction(payload)


def scan(content: bytes) -> None:
    """The static scan: it refuses nothing, but never fails and always accounts for its input."""
    report: ScanReport = _file(content, lambda path: scan_path(path, limits=LIMITS))
    if not report.parts:
        raise RuntimeError("expected a part for the file; the report has none")


class _Asked(pickle._Unpickler):
    """Notes which globals a pickle asks for; imports and calls nothing.

    The one in C makes room for every memo index up to the largest one that is named: 12 GB.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.names: list[tuple[str, str]] = []

    def find_class(self, module: str, name: str) -> Any:
        self.names.append((module, name))
        return _stub


def _stub(*_arguments: Any, **_named: Any) -> None:
    return None


def read_pickle(content: bytes) -> None:
    """What a real unpickler is asked to find in dangerous modules is found, or is not readable."""
    asked = _Asked(content)
    try:
        asked.load()
    except Exception:  # what was asked for before counts all the same
        pass
    report: ScanReport = _file(content, lambda path: scan_path(path, limits=LIMITS), "model.pkl")
    harmful = [pair for pair in asked.names if pair[0] in ("os", "posix", "nt", "subprocess")]
    unread = any(part.outcome is Outcome.ERROR for part in report.parts)
    if harmful and not unread and report.verdict in (Verdict.CLEAN, Verdict.INCOMPLETE):
        raise RuntimeError(f"a pickle that asks for {harmful} is called {report.verdict}")


READERS: dict[str, Callable[[bytes], None]] = {
    "zip": read_zip,
    "csv": read_csv,
    "labels": read_label_zip,
    "image": read_image,
    "gate": read_gate,
    "config": read_config,
    "payload": read_payload,
    "hdf5": read_hdf5,
    "pickle": read_pickle,
    "scan": scan,
}


def refused(reader: Callable[[bytes], None], content: bytes) -> str | None:
    """The refusal's message, None where the content was read.

    Anything but a ModelwardError passes through: that is what the tests look for.
    """
    try:
        reader(content)
    except ModelwardError as error:
        if error.status >= 500 and not isinstance(error, AssessmentError):
            raise
        return error.message
    return None
