"""Numbers of the vulnerability report, each measured on the untouched target."""

import platform
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from modelward._version import __version__
from modelward.attacks import ExtractionResult, Surrogate
from modelward.domain import (
    AnalysisType,
    AssessmentError,
    AttackType,
    ClassView,
    CurvePoint,
    JobInfo,
    Measured,
    SourceShare,
    ThreatModel,
    VulnerabilityReport,
)
from modelward.jobs.pipeline import StageContext
from modelward.jobs.pipelines.image_extraction.state import Assessment, Labels, Model
from modelward.scoring import defense_due, extraction_score, measured_rate, references, severity

__all__ = ["hint_at_scale", "job_info", "predicted_labels", "vulnerability_report"]

_BATCH = 512
_DOUBTFUL = 0.9
"""Accuracy up to which it is worth asking whether the pixels come on the wrong scale."""
_CLEARLY = 0.05
_WIRE_NAMES = {"input_shape": "input_dimensions", "defense_best_only": "defense_bestonly"}
_FRACTIONS = "0 to 1 (normalize_data: yes)"


def job_info(context: StageContext, state: Assessment) -> JobInfo:
    """Where the report comes from and how to repeat it."""
    parameters = state.config.model_dump(mode="json")
    return JobInfo(
        job_id=context.job_id,
        model_id=context.model_id,
        task_type=str(context.task),
        analysis_type=str(context.analysis),
        created=context.created,
        modelward_version=__version__,
        seed=state.config.seed,
        parameters={
            # under the names of the request: whoever repeats the analysis sends them
            _WIRE_NAMES.get(key, key): str(tuple(value)) if isinstance(value, list) else value
            for key, value in parameters.items()
        },
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "keras", "numpy")},
        },
        stage_seconds=dict(context.stage_seconds),
    )


def vulnerability_report(context: StageContext, state: Assessment) -> VulnerabilityReport:
    """Measure the clone against the target and put the report together."""
    result, model, images = state.result, state.model, state.images
    scored, target_labels = state.scored, state.target_labels
    pixels, truth, target = images.images[scored], images.labels[scored], target_labels[scored]
    clone = predicted_labels(result.surrogate, pixels)
    same = clone == target
    majority = float(np.bincount(target).max() / len(target))
    score, interval = extraction_score(int(same.sum()), len(same), majority)
    config = state.config
    return VulnerabilityReport(
        job=job_info(context, state),
        threat_model=_threat_model(state),
        original=model.profile("Original model"),
        surrogate=result.surrogate.profile("Extracted model"),
        original_accuracy=_rate(target == truth),
        extracted_accuracy=_rate(clone == truth),
        agreement=_rate(same),
        majority_share=majority,
        score=score,
        score_interval=interval,
        severity=severity(score),
        queries_spent=result.spent,
        curve=tuple(
            CurvePoint(
                queries=queries, agreement=_rate(predicted_labels(checkpoint, pixels) == target)
            )
            for queries, checkpoint in result.checkpoints
        ),
        sources=_sources(result),
        per_class=_per_class(result, config.number_of_classes, truth, target, clone),
        vulnerability_threshold=config.vulnerability_threshold,
        defense_recommended=defense_due(score, config.vulnerability_threshold),
        references=references(AnalysisType.EXTRACTION),
        notes=tuple(state.notes),
        warnings=_warnings(state),
    )


def _warnings(state: Assessment) -> tuple[str, ...]:
    """What speaks against the upload itself: labels, scale or model that do not fit together.

    The attack copies whatever the model answers, so its score would not show it.
    """
    truth = state.images.labels
    right = float(np.mean(state.target_labels == truth))
    constant = float(np.bincount(truth).max() / len(truth))
    hint = hint_at_scale(state)
    accuracy = f"the model is right on {_percent(right)} of the uploaded images"
    if right > constant:
        return (f"{accuracy}.{hint}",) if hint else ()
    return (
        f"{accuracy}, no more than always giving the most frequent label would be "
        f"({_percent(constant)}): labels and model do not fit together. Check that the labels "
        "count from 0 in the order of the model's outputs, normalize_data, color_space and the "
        f"model file, and repeat the assessment.{hint}",
    )


def _percent(share: float) -> str:
    return f"{share * 100:.2f} %"


def hint_at_scale(state: Assessment) -> str:
    """A sentence where pixels on the other scale make the model clearly better; else empty."""
    right = float(np.mean(state.target_labels == state.images.labels))
    if right > _DOUBTFUL:
        return ""
    normalised = state.config.normalize_data
    try:
        labels = predicted_labels(
            state.model.with_normalisation(not normalised), state.images.images
        )
    except AssessmentError:  # answers that are no numbers: not the scale it was made for
        return ""
    other = float(np.mean(labels == state.images.labels))
    if other < right + _CLEARLY:
        return ""
    return (
        f" With pixels from {'0 to 255 (normalize_data: no)' if normalised else _FRACTIONS} "
        f"it is right on {_percent(other)}; repeat the assessment with that."
    )


def predicted_labels(model: Model | Surrogate, images: NDArray[np.uint8]) -> Labels:
    """Labels that the target or a clone gives to images, in bounded memory.

    Args:
        model: Who is asked.
        images: (n, height, width, channels) uint8.

    Returns:
        (n,) int64.
    """
    parts = [
        model.predict(images[start : start + _BATCH].astype(np.float32) / np.float32(255)).argmax(1)
        for start in range(0, len(images), _BATCH)
    ]
    return np.concatenate(parts).astype(np.int64)


def _rate(hits: NDArray[np.bool_]) -> Measured:
    return measured_rate(int(hits.sum()), len(hits), reason="no uploaded image belongs here")


def _threat_model(state: Assessment) -> ThreatModel:
    config = state.config
    shape = " x ".join(str(side) for side in config.input_shape)
    knowledge = f"the input shape ({shape}) and the number of classes ({config.number_of_classes})"
    if config.attack_type is AttackType.GREYBOX:
        knowledge += f", and {len(state.seeds):,} images from the uploaded sample, without labels"
    return ThreatModel(
        goal="train a clone that answers as the model does (functional model extraction)",
        attack_type=config.attack_type,
        access=config.access,
        knowledge=knowledge,
        budget=config.number_of_attack_queries,
    )


def _sources(result: ExtractionResult) -> tuple[SourceShare, ...]:
    return tuple(
        SourceShare(
            name=source.name,
            description=source.description,
            queries=count,
            share=count / result.spent,
        )
        for source, count in zip(result.sources, result.source_counts, strict=True)
        if count
    )


def _per_class(
    result: ExtractionResult, classes: int, truth: Labels, target: Labels, clone: Labels
) -> tuple[ClassView, ...]:
    return tuple(
        ClassView(
            label=label,
            samples=int((target == label).sum()),
            original_accuracy=_rate((target == truth)[truth == label]),
            agreement=_rate((clone == target)[target == label]),
            queries=result.class_counts[label],
        )
        for label in range(classes)
    )
