"""The rules of the scan: what each is about and which public entries describe it."""

from typing import NamedTuple

from modelward.scan.report import Level

__all__ = ["RULES", "Rule"]

_PICKLE = ("CWE-502", "AML.T0011.000", "AML.T0010.003", "OWASP-ML06")
_KERAS = ("CWE-502", "AML.T0011.000", "OWASP-ML06")
_FILES = ("CWE-73", "CWE-22", "OWASP-ML06")


class Rule(NamedTuple):
    """One kind of finding."""

    level: Level
    """Severity where the finding names none."""
    title: str
    references: tuple[str, ...] = ()
    """CWE, CVE, MITRE ATLAS (AML) and OWASP Machine Learning Top 10 ids."""


RULES: dict[str, Rule] = {
    "MW-PKL-001": Rule(
        Level.CRITICAL, "A pickle names something that runs code or reaches files", _PICKLE
    ),
    "MW-PKL-002": Rule(Level.MEDIUM, "A pickle names something unknown", _PICKLE),
    "MW-PKL-003": Rule(Level.CRITICAL, "A pickle makes a name while loading", _PICKLE),
    "MW-PKL-004": Rule(Level.HIGH, "A pickle makes a call that honest ones do not make", _PICKLE),
    "MW-PKL-005": Rule(Level.HIGH, "A pickle changes a class or a method", _PICKLE),
    "MW-PKL-006": Rule(Level.HIGH, "A pickle uses the extension registry", _PICKLE),
    "MW-PKL-007": Rule(Level.MEDIUM, "A pickle refers to an object outside itself", _PICKLE),
    "MW-PKL-008": Rule(
        Level.HIGH, "A pickle that readers read differently, or an array that lies about itself",
        (*_PICKLE, "CWE-436"),
    ),
    "MW-PKL-009": Rule(Level.MEDIUM, "A pickle that fills memory", ("CWE-409", "OWASP-ML06")),
    "MW-PKL-010": Rule(Level.HIGH, "A second scanner calls the pickle malicious", _PICKLE),
    "MW-FMT-001": Rule(Level.LOW, "The name does not fit the content", ("CWE-434",)),
    "MW-FMT-002": Rule(Level.MEDIUM, "Two formats in one file", ("CWE-434", "CWE-436")),
    "MW-FMT-003": Rule(Level.HIGH, "A name that leaves the archive", (*_FILES, "CVE-2025-12060")),
    "MW-FMT-004": Rule(Level.HIGH, "A link or special file in the archive", ("CWE-59", *_FILES)),
    "MW-FMT-005": Rule(Level.CRITICAL, "A program for the machine itself", ("CWE-506",)),
    "MW-ZIP-001": Rule(
        Level.MEDIUM, "An archive that two readers read differently",
        ("CWE-436", "CVE-2025-10156", "CVE-2025-1944", "CVE-2025-1945"),
    ),
    "MW-KER-001": Rule(
        Level.CRITICAL, "A Keras model with code in it",
        (*_KERAS, "CVE-2024-3660", "CVE-2025-9905"),
    ),
    "MW-KER-002": Rule(
        Level.HIGH, "A Keras model that names something other than a standard part",
        (*_KERAS, "CVE-2025-1550", "CVE-2025-8747", "CVE-2025-9906"),
    ),
    "MW-KER-003": Rule(
        Level.HIGH, "A Keras layer that reads a file or an address",
        (*_FILES, "CWE-918", "CVE-2025-12058"),
    ),
    "MW-KER-004": Rule(Level.MEDIUM, "A layer of absurd size", ("CWE-770",)),
    "MW-H5-001": Rule(
        Level.HIGH, "An HDF5 file that reaches into other files or objects",
        (*_FILES, "CVE-2026-1669"),
    ),
    "MW-H5-002": Rule(
        Level.MEDIUM, "HDF5 values that are no plain numbers", ("CWE-502", "CVE-2026-0897")
    ),
    "MW-ONX-001": Rule(Level.MEDIUM, "An ONNX operator outside the standard", ("CWE-829",)),
    "MW-ONX-002": Rule(
        Level.HIGH, "ONNX data outside the model's folder", (*_FILES, "CVE-2024-27318"),
    ),
    "MW-ONX-003": Rule(Level.MEDIUM, "An ONNX tensor of absurd size", ("CWE-770",)),
    "MW-TF-001": Rule(
        Level.CRITICAL, "A TensorFlow op that runs code or reaches files or the network",
        ("CWE-94", "AML.T0011.000", "OWASP-ML06"),
    ),
    "MW-TF-002": Rule(Level.MEDIUM, "An unknown TensorFlow op", ("CWE-829",)),
    "MW-TF-003": Rule(Level.HIGH, "A checkpoint path written into the graph", _FILES),
    "MW-TF-004": Rule(Level.HIGH, "An asset outside the SavedModel", _FILES),
    "MW-TF-005": Rule(Level.MEDIUM, "A table that is read from a file", _FILES),
    "MW-TS-001": Rule(Level.MEDIUM, "TorchScript that reaches out of the model", ("CWE-94",)),
    "MW-COD-001": Rule(Level.INFO, "Program code: it may only run in the sandbox", ("CWE-94",)),
    "MW-YML-001": Rule(Level.HIGH, "YAML that makes Python objects", ("CWE-502",)),
    "MW-XML-001": Rule(Level.MEDIUM, "XML with a document type of its own", ("CWE-611", "CWE-776")),
    "MW-TPL-001": Rule(
        Level.HIGH, "A chat template that reaches into Python", ("CWE-1336", "CVE-2024-34359")
    ),
}  # fmt: skip
