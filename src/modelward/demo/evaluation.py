"""The clone and the detector, judged on digits that were never uploaded."""

import importlib.util
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from modelward.demo.artifacts import read_images
from modelward.demo.datasets import Split, scaled
from modelward.demo.keras_files import load_model, predictor
from modelward.demo.reporting import unreported
from modelward.demo.training import accuracy

__all__ = [
    "CloneResult",
    "Verdict",
    "judge_clone",
    "judge_detector",
    "load_defense",
    "predict_samples",
    "read_report",
]

Array = np.ndarray[Any, Any]
_BATCH = 1000


@dataclass(frozen=True)
class CloneResult:
    """The downloaded surrogate against the target, on the test digits."""

    accuracy: float
    """Share of test digits that the surrogate labels correctly."""
    agreement: float
    """Share of test digits to which surrogate and target give the same label."""
    curve: tuple[tuple[int, float], ...]
    """(queries spent, agreement), rising."""


@dataclass(frozen=True)
class Verdict:
    """What the detector says about one image."""

    label: str
    """``attack`` or ``not-attack``."""
    probability: float
    """Of that label."""


def judge_clone(folder: Path, target: Callable[[Array], Array], test: Split) -> CloneResult:
    """Compare the surrogate and its earlier states with the target.

    Args:
        folder: Unpacked Surrogate_model: ``surrogate_model.h5`` and, where the service stores
            them, ``curve/<queries>.h5``.
        target: (n, h, w, c) float32 in [0, 1] -> (n, classes) probabilities of the target.
        test: Images that were never uploaded.
    """
    images = scaled(test.images)
    wanted = target(images).argmax(1)

    def ask(path: Path) -> Array:
        return predictor(load_model(path))(images)

    final = ask(folder / "surrogate_model.h5")
    agreement = float((final.argmax(1) == wanted).mean())
    points = {
        int(path.stem): float((ask(path).argmax(1) == wanted).mean())
        for path in sorted((folder / "curve").glob("*.h5"))
    }
    return CloneResult(accuracy(final, test.labels), agreement, tuple(sorted(points.items())))


def load_defense(folder: Path, **reporting: Any) -> Any:
    """Load a downloaded defence the way its users do.

    Args:
        folder: Unpacked Defense_artifact: ``predict.py`` and ``defense_model.h5``.
        reporting: Further arguments of ``AISDefenseModel``, such as ``splunk_url``. Without any
            nothing is reported, whatever the environment says.

    Returns:
        ``AISDefenseModel`` with ``predict(images) -> (labels, probabilities)``.
    """
    module = _import_file(folder / "predict.py")
    model = load_model(folder / "defense_model.h5")
    with unreported():
        return module.AISDefenseModel(defense_model=model, **reporting)


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("modelward_downloaded_predict", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"expected a Python file at {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def judge_detector(defense: Any, test: Split) -> float:
    """False positive rate: the share of genuine test digits that are called an attack."""
    images = scaled(test.images)
    flagged = 0
    for start in range(0, len(images), _BATCH):
        labels, _ = defense.predict(images[start : start + _BATCH])
        flagged += int((np.asarray(labels).ravel() == "attack").sum())
    return flagged / len(images)


def predict_samples(
    defense: Any,
    test: Split,
    attack_samples: Path,
    *,
    count: int,
    seed: int,
    reporting: Any = None,
) -> tuple[list[Verdict], list[Verdict]]:
    """Ask the detector about a few genuine digits and a few attack samples.

    Args:
        defense: From ``load_defense``.
        test: Genuine digits; sent as float32 in [0, 1], as a model gets them.
        attack_samples: Zip or folder of images; sent as uint8, as they are decoded.
        count: How many of each.
        seed: Seed of the choice.
        reporting: The defence that judges the attack samples, where it is another one.

    Returns:
        Verdicts on genuine digits, verdicts on attack samples.
    """
    generator = np.random.default_rng(seed)
    genuine = generator.choice(len(test), count, replace=False)
    attacks = _attack_images(attack_samples)
    chosen = generator.choice(len(attacks), min(count, len(attacks)), replace=False)
    return (
        _verdicts(defense.predict(scaled(test.images[genuine]))),
        _verdicts((reporting or defense).predict(attacks[chosen])),
    )


def _attack_images(place: Path) -> Array:
    if place.is_file():
        return read_images(place)[1]
    from PIL import Image

    files = sorted(path for path in place.rglob("*") if path.is_file())
    return np.stack([np.asarray(Image.open(path).convert("L")) for path in files])[..., None]


def _verdicts(answer: tuple[Array, Array]) -> list[Verdict]:
    labels, probabilities = (np.asarray(part).ravel() for part in answer)
    return [
        Verdict(str(label), float(probability))
        for label, probability in zip(labels, probabilities, strict=True)
    ]


def read_report(folder: Path, name: str) -> dict[str, Any]:
    """Read the JSON form of a downloaded report.

    Args:
        folder: Folder (or zip) of the report's formats.
        name: ``Vulnerability`` or ``Defense``.
    """
    if folder.is_file():
        with zipfile.ZipFile(folder) as archive:
            return dict(json.loads(archive.read(f"{name}.json")))
    return dict(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
