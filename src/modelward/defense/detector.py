"""From benign images and queries to a detector with its measurements."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelward.defense import encodings
from modelward.defense.evaluate import DetectorEvaluation, detection_rates
from modelward.defense.inputs import (
    DefenseInputs,
    Images,
    Split,
    derived_sources,
    generate_unsent,
    split_inputs,
)
from modelward.defense.network import MOST_PARAMETERS, full_spec
from modelward.defense.train import (
    TARGET_FPR,
    Effort,
    Pool,
    allowed_false_positives,
    build_pool,
    calibrate,
    extend_pool,
    fit,
    fold_threshold,
    scores,
)
from modelward.domain import AssessmentError, Cost, EncodingView, Measured, SourceDetection
from modelward.nets import count_parameters, save_h5, to_keras
from modelward.scoring import auroc, measured_rate

__all__ = ["DetectorResult", "train_detector"]

Progress = Callable[[float, str], None]

_VALUES = 300_000_000
"""Pixel values, all channels counted, that the training images of both classes may hold."""
_MOST_SAMPLES = 16_000
_LEAST_SAMPLES = 1_000
_MOST_STEPS, _UNSEEN_STEPS, _PILOT_STEPS = 1_600, 280, 120
"""Of the detector, of each leave-one-out detector, and of the one that shows what is hard."""
_LEAST_LEFT_OUT = 30
_MOST_LEFT_OUT = 600
_REPEATS = 40


class DetectorResult:
    """A trained detector: its threshold is folded in, its evaluation done."""

    def __init__(self, module: Any, shape: tuple[int, int, int]) -> None:
        self._module = module
        self._shape = shape
        self._evaluation: DetectorEvaluation | None = None

    @property
    def evaluation(self) -> DetectorEvaluation:
        """The measurements."""
        if self._evaluation is None:
            raise AssessmentError("the detector was not evaluated; use train_detector")
        return self._evaluation

    def scores(self, images: Images) -> NDArray[np.float64]:
        """Scores of (n, h, w, c) uint8 images: above 0 means attack, (n,) float64."""
        return scores(self._module, images)

    def save_h5(self, path: Path) -> None:
        """Save as .h5 for Keras 2 and Keras 3: [0, 1] in, (not-attack, attack) out."""
        save_h5(to_keras(full_spec(self._shape), self._module, name="defense_model"), path)


def train_detector(inputs: DefenseInputs, progress: Progress) -> DetectorResult:
    """Train, calibrate and evaluate a detector.

    Args:
        inputs: Benign images, queries and generators.
        progress: Told (share done, message).

    Returns:
        The detector with its evaluation. The same inputs give the same detector.

    Raises:
        AssessmentError: The inputs do not suffice.
    """
    values = int(np.prod(inputs.shape))
    most = int(np.clip(_VALUES / values / 2, _LEAST_SAMPLES, _MOST_SAMPLES))
    progress(0.0, "Splitting benign images and queries")
    split = split_inputs(inputs, most)
    unsent = generate_unsent(inputs, min(most * 6 // 10, len(inputs.queries)))
    progress(0.05, "Encoding training images")
    pool = build_pool(split, unsent, inputs.seed, most)
    pilot = Effort(steps=min(_steps(pool), _PILOT_STEPS))
    extra = _harder(inputs, split, pool, unsent, effort=pilot, most=most)
    whole = extend_pool(pool, extra, inputs.shape, inputs.seed)
    made = {k: len(images) + len(extra.get(k, ())) for k, images in unsent.items()}
    module = fit(
        whole,
        inputs.shape,
        Effort(steps=_steps(whole)),
        inputs.seed,
        lambda share: progress(0.1 + 0.35 * share, "Training the detector"),
    )
    if count_parameters(module) > MOST_PARAMETERS:
        raise AssessmentError(
            f"defence: expected a detector of at most {MOST_PARAMETERS:,} parameters, got "
            f"{count_parameters(module):,}"
        )
    fold_threshold(module, calibrate(_calibration_scores(module, split)))
    result = DetectorResult(module, inputs.shape)
    progress(0.45, "Measuring the detector")
    unseen = _leave_one_out(
        inputs,
        split,
        pool,
        derived=derived_sources(inputs, unsent),
        effort=Effort(steps=max(60, min(_steps(pool) // 4, _UNSEEN_STEPS))),
        progress=progress,
    )
    progress(0.95, "Measuring the detector's cost")
    detector, cost = _profile(result, inputs)
    views = _views(module, split)
    result._evaluation = DetectorEvaluation(
        detector=detector,
        target_fpr=TARGET_FPR,
        benign_train=len(split.benign_train),
        benign_calibration=len(split.benign_calibration),
        benign_test=len(split.benign_test),
        attack_train=len(split.attack_train) + sum(made.values()),
        attack_test=len(split.attack_test),
        unseen=unseen,
        encodings=views,
        cost=cost,
        notes=(*split.notes, *_notes(split, made, inputs)),
        **detection_rates(scores(module, split.benign_test), scores(module, split.attack_test)),  # type: ignore[arg-type]
    )
    progress(1.0, "The detector is ready")
    return result


def _steps(pool: Pool) -> int:
    """Training steps that a pool is worth."""
    return int(np.clip(len(pool.source) / 33, 120, _MOST_STEPS))


def _harder(
    inputs: DefenseInputs,
    split: Split,
    pool: Pool,
    unsent: dict[int, Images],
    *,
    effort: Effort,
    most: int,
) -> dict[int, Images]:
    """Further unsent queries of the sources that a short training misses, by source.

    A source such as strokes makes queries close to the domain's border: fresh ones teach more
    than further steps on the same ones, which are only learnt by heart.
    """
    pilot = fit(pool, inputs.shape, effort, inputs.seed + len(inputs.sources) + 1)
    threshold = calibrate(_calibration_scores(pilot, split)[:1])
    missed = split.attack_train_source[scores(pilot, split.attack_train) <= threshold]
    wanted = {k: int((missed == k).sum()) for k in unsent}
    if not any(wanted.values()):
        return {}
    share = min(most, len(inputs.queries)) / sum(wanted.values())
    return {
        k: inputs.generate(inputs.sources[k], round(count * share), inputs.seed + 104_729 * (k + 1))
        for k, count in wanted.items()
        if round(count * share) >= 1
    }


def _calibration_scores(module: Any, split: Split) -> list[NDArray[np.float64]]:
    kinds = encodings.views(split.benign_test.shape[-1])
    return [scores(module, encodings.apply(split.benign_calibration, kind)) for kind in kinds]


def _views(module: Any, split: Split) -> tuple[EncodingView, ...]:
    rows = []
    for kind in encodings.views(split.benign_test.shape[-1]):
        benign = scores(module, encodings.apply(split.benign_test, kind))
        attack = scores(module, encodings.apply(split.attack_test, kind))
        rows.append(
            EncodingView(
                encoding=kind.name,
                fpr=measured_rate(int((benign > 0).sum()), len(benign)),
                tpr=measured_rate(
                    int((attack > 0).sum()), len(attack), reason="there were no held-out queries"
                ),
            )
        )
    return tuple(rows)


def _leave_one_out(
    inputs: DefenseInputs,
    split: Split,
    pool: Pool,
    *,
    derived: set[int],
    effort: Effort,
    progress: Progress,
) -> tuple[SourceDetection, ...]:
    """Detection of each source by a detector that never saw it.

    A source that reworks earlier queries or seeds carries parts of the
    others: it is also left out wherever another source is.
    """
    used = [k for k in range(len(inputs.sources)) if np.any(inputs.source_of == k)]
    rng = np.random.default_rng([inputs.seed, 4])
    rows = []
    for number, source in enumerate(used):
        name = inputs.sources[source]
        progress(0.45 + 0.5 * number / len(used), f"Leaving out {name}")
        own = np.flatnonzero(inputs.source_of == source)
        left = {source} if source in derived else {source, *derived}
        if len(own) < _LEAST_LEFT_OUT:
            nothing = Measured(
                value=None,
                n=len(own),
                reason=f"expected at least {_LEAST_LEFT_OUT} queries, there were {len(own)}",
            )
            rows.append(SourceDetection(name=name, auroc=nothing, tpr=nothing))
            continue
        module = fit(pool.without(left), inputs.shape, effort, inputs.seed + 1 + source)
        threshold = calibrate(_calibration_scores(module, split)[:1])
        attack = scores(module, inputs.queries[rng.permutation(own)[:_MOST_LEFT_OUT]])
        benign = scores(module, split.benign_test)
        rows.append(
            SourceDetection(
                name=name,
                auroc=auroc(benign, attack),
                tpr=measured_rate(int((attack > threshold).sum()), len(attack)),
            )
        )
    return tuple(rows)


def _profile(result: DetectorResult, inputs: DefenseInputs) -> tuple[Any, Cost]:
    """Architecture of the saved detector, and latency of detector and model side by side."""
    from modelward.targets import load_keras

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "defense_model.h5"
        result.save_h5(path)
        saved = load_keras(
            path, input_shape=inputs.shape, classes=2, normalize_data=True, color_space=None
        )
        _agree(result, saved, inputs)
        image = inputs.benign[:1].astype(np.float32) / np.float32(255)
        taken: dict[str, list[float]] = {"detector": [], "model": []}
        for repeat in range(_REPEATS + 5):
            for name, ask in (("detector", saved.predict), ("model", inputs.model_predict)):
                start = time.perf_counter()
                ask(image)
                if repeat >= 5:  # the first calls build caches
                    taken[name].append((time.perf_counter() - start) * 1000)
        detector_ms = float(np.median(taken["detector"]))
        model_ms = float(np.median(taken["model"]))
        profile = saved.profile("defense_model").model_copy(update={"inference_ms": detector_ms})
    ratio = detector_ms / max(model_ms, 1e-6)
    return profile, Cost(detector_ms=detector_ms, model_ms=model_ms, ratio=ratio, repeats=_REPEATS)


def _agree(result: DetectorResult, saved: Any, inputs: DefenseInputs) -> None:
    """The saved file must decide as what was measured."""
    images = np.concatenate([inputs.benign[:32], inputs.queries[:32]])
    logits = np.clip(result.scores(images), -80, 80)
    expected = 1 / (1 + np.exp(-logits))
    got = np.asarray(saved.predict(images.astype(np.float32) / np.float32(255)))[:, 1]
    worst = float(np.abs(expected - got).max())
    if worst > 1e-4:
        raise AssessmentError(
            f"defence: the saved detector differs from the trained one by {worst:.2g}, expected "
            "at most 1e-4; this is a defect, please report it"
        )


def _notes(split: Split, made: dict[int, int], inputs: DefenseInputs) -> tuple[str, ...]:
    count = len(split.benign_calibration)
    notes = []
    if allowed_false_positives(count, TARGET_FPR) < 0:
        notes.append(
            f"The threshold was set on {count} benign images, too few to support a false positive "
            f"rate of {TARGET_FPR:.0%}: it lies just above all of them. Upload more images."
        )
    else:
        notes.append(
            f"The threshold was set on {count:,} benign images for a false positive rate of at "
            f"most {TARGET_FPR:.0%} under the worst of the encodings; from that many images the "
            f"rate is known to about {2 * (TARGET_FPR / count) ** 0.5:.1%} either way."
        )
    names = [inputs.sources[k] for k in sorted(made)]
    if names:
        notes.append(
            f"Besides sent queries, {sum(made.values()):,} unsent ones of {', '.join(names)} were "
            "trained on, more of those that a short training missed, and outliers made from benign "
            "images (outlier exposure, Hendrycks et al. 2019)."
        )
    notes.append(
        "Leave-one-out detectors are trained with fewer steps than the shipped one. Sources that "
        "rework earlier queries (mixtures, mutations) are left out together with each other source."
    )
    return tuple(notes)
