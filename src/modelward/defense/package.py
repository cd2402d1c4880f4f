"""The defence artifact: one zip with the model, a self-contained predict.py and a note."""

import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelward.defense.assemble import assemble

if TYPE_CHECKING:
    from modelward.defense.detector import DetectorResult

__all__ = ["predict_source", "write_artifact"]

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of every member: the same result gives the same bytes."""

_HEADER = """\
# Written by Modelward {version} (Apache-2.0). Independent of, and not endorsed by, the vendor of
# AIShield; class and attribute names follow its interface so that existing code works.
"""

_README = """\
Defence against model extraction
================================

defense_model.h5   detector, {parameters:,} parameters; input {shape} in [0, 1];
                   outputs: column 0 = not-attack, column 1 = attack
predict.py         scales the pixels, asks the model, names the answer, reports attacks to
                   Microsoft Sentinel or Splunk where credentials are given; needs numpy only
detector_info.json where this detector comes from and what it measured

Use:

    from keras.models import load_model      # Keras 2, Keras 3 or tf.keras
    from predict import AISDefenseModel

    defense = AISDefenseModel(load_model("defense_model.h5"))
    label, probability = defense.predict(images)

    defense = AISDefenseModel(load_model("defense_model.h5"),
                              splunk_url="https://splunk.example:8088", authorization=TOKEN)

images: (n, {height}, {width}, {channels}), normalised (0 to 1) or raw (0 to 255), decided for every
image by itself: integers and images with a value above 1 are raw.
label: 'attack' or 'not-attack'; probability: that of the label, at least 0.5. The decision
threshold is part of the model: {threshold}.

Measured on held-out data: {rates}.

What it cannot see:
{limits}
"""


def predict_source(version: str, facts: Mapping[str, str] | None = None) -> str:
    """Text of predict.py: sender and runtime under a header that names the version.

    Args:
        version: Of Modelward.
        facts: model_id, job_id, task_type and analysis_type, for the events.
    """
    known = {**(facts or {}), "version": version}
    return assemble(_HEADER.format(version=version), known)


def write_artifact(result: "DetectorResult", path: Path, *, info: dict[str, Any]) -> None:
    """Write the zip that ``get_report?report_type=Defense_artifact`` hands out.

    Args:
        result: The trained detector.
        path: File to write; replaced atomically.
        info: Facts beside the measurements in ``detector_info.json`` (job id, model id,
            ``modelward_version``, ...); JSON values.
    """
    from modelward._version import __version__

    facts = {**info, "modelward_version": __version__, "detector": _facts(result)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        model = Path(scratch) / "defense_model.h5"
        result.save_h5(model)
        members = {
            "predict.py": predict_source(__version__, _origin(info)).encode(),
            "defense_model.h5": model.read_bytes(),
            "README.txt": _readme(result).encode(),
            "detector_info.json": (json.dumps(facts, indent=2, default=str) + "\n").encode(),
        }
        archive = Path(scratch) / "artifact.zip"
        with zipfile.ZipFile(archive, "w") as file:
            for name, content in members.items():
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                file.writestr(entry, content)
        archive.replace(path)


def _origin(info: Mapping[str, Any]) -> dict[str, str]:
    names = ("model_id", "job_id", "task_type", "analysis_type")
    return {name: str(info[name]) for name in names if info.get(name)}


def _facts(result: "DetectorResult") -> dict[str, Any]:
    measured = result.evaluation
    return {
        "input_shape": list(measured.detector.input_shape),
        "input_range": [0, 1],
        "outputs": ["not-attack", "attack"],
        "parameters": measured.detector.parameters,
        "target_fpr": measured.target_fpr,
        **{
            name: getattr(measured, name).model_dump()
            for name in ("auroc", "fpr", "tpr", "tpr_at_fpr_1e2", "tpr_at_fpr_1e3")
        },
        "unseen": [row.model_dump() for row in measured.unseen],
        "encodings": [row.model_dump() for row in measured.encodings],
        "limits": list(measured.limits),
        "notes": list(measured.notes),
    }


def _readme(result: "DetectorResult") -> str:
    measured = result.evaluation
    height, width, channels = measured.detector.input_shape
    rates = []
    for text, rate in (("attacks found", measured.tpr), ("false alarms", measured.fpr)):
        if rate.value is None:
            rates.append(f"{text}: not measured ({rate.reason})")
        else:
            rates.append(f"{text} {rate.value:.2%} of {rate.n}")
    return _README.format(
        parameters=measured.detector.parameters,
        shape=(height, width, channels),
        height=height,
        width=width,
        channels=channels,
        threshold=f"set for at most {measured.target_fpr:.0%} false alarms on benign images",
        rates="; ".join(rates),
        limits="\n".join(f"- {limit}" for limit in measured.limits),
    )
