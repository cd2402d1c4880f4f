"""Static scan of model files: nothing is loaded, what cannot be read is never called clean."""

from modelward.scan.export import to_json, to_sarif
from modelward.scan.gate import require_harmless, require_readable
from modelward.scan.hdf5 import MAX_HDF5_BYTES, check_hdf5
from modelward.scan.keras_config import MAX_CONFIG_BYTES, check_config, parse_config
from modelward.scan.kind import ModelKind, model_kind
from modelward.scan.limits import Limits
from modelward.scan.report import Finding, Level, Outcome, Part, ScanReport, Verdict
from modelward.scan.scanner import scan_path

__all__ = [
    "MAX_CONFIG_BYTES",
    "MAX_HDF5_BYTES",
    "Finding",
    "Level",
    "Limits",
    "ModelKind",
    "Outcome",
    "Part",
    "ScanReport",
    "Verdict",
    "check_config",
    "check_hdf5",
    "model_kind",
    "parse_config",
    "require_harmless",
    "require_readable",
    "scan_path",
    "to_json",
    "to_sarif",
]
