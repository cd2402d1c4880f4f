"""What each pair needs before its job is made: payload parser, input check, stages, sentence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from modelward.data import check_image_extraction
from modelward.domain import (
    LEAST_FOR_DEFENSE,
    AnalysisType,
    ImageExtractionConfig,
    InvalidInputError,
    InvalidParameterError,
    SandboxOptions,
    Stage,
    TaskType,
    parse_image_extraction,
)

__all__ = ["DECLINED", "Gate", "find_gate"]

DECLINED = "Defense generation is not triggered"
"""The sentence that tells existing clients that a job ended without a defence."""

_EXTRACTION_STAGES = (
    Stage.MODEL_EXPLORATION,
    Stage.SANITY_CHECK,
    Stage.QUERY_GENERATOR,
    Stage.VULNERABILITY_ENGINE,
    Stage.DEFENSE_REPORT,
)


@dataclass(frozen=True)
class Gate:
    """How requests of one pair are checked."""

    parse: Callable[[Mapping[str, Any]], BaseModel]
    """Payload to typed parameters."""
    check: Callable[[Any, Mapping[str, Path]], None]
    """Looks into the uploaded archives without decoding images or opening models."""
    check_model: Callable[[Any, Mapping[str, Path], SandboxOptions], None]
    """Refuses models that carry code where they cannot be sandboxed."""
    load: Callable[[Mapping[str, Any]], BaseModel]
    """Stored parameters back to typed ones, in the job process."""
    stages: tuple[Stage, ...]


def _check_images(config: ImageExtractionConfig, archives: Mapping[str, Path]) -> None:
    """Look into the archives; where a defence is certain to come, it must be possible too."""
    count = check_image_extraction(config, archives)
    if config.vulnerability_threshold > 0:
        return
    asked = config.number_of_attack_queries
    for what, got in (("labelled images", count), ("number_of_attack_queries", asked)):
        if got < LEAST_FOR_DEFENSE:
            raise InvalidInputError(
                f"{what}: expected at least {LEAST_FOR_DEFENSE}, because vulnerability_threshold "
                f"{config.vulnerability_threshold:g} always makes a defence; got {got}. Send more, "
                "or vulnerability_threshold 1 for an analysis without a defence"
            )


def _check_sandboxable(
    config: ImageExtractionConfig, archives: Mapping[str, Path], options: SandboxOptions
) -> None:
    # Not above: the job process, which needs no such check, would import half of the service.
    from modelward.jobs.sandboxing import check_model

    check_model(config, archives, options)


_GATES: dict[tuple[TaskType, AnalysisType], Gate] = {
    (TaskType.IMAGE_CLASSIFICATION, AnalysisType.EXTRACTION): Gate(
        parse=parse_image_extraction,
        check=_check_images,
        check_model=_check_sandboxable,
        load=ImageExtractionConfig.model_validate,
        stages=_EXTRACTION_STAGES,
    ),
}


def find_gate(task: str, analysis: str) -> Gate:
    """The gate of a pair.

    Raises:
        InvalidParameterError: The pair cannot be analysed by this version.
    """
    for (known_task, known_analysis), gate in _GATES.items():
        if (known_task, known_analysis) == (task, analysis):
            return gate
    served = ", ".join(f"{t} + {a}" for t, a in _GATES)
    raise InvalidParameterError(
        f"task_type and analysis_type: expected a pair that is supported ({served}); "
        f"{task} + {analysis} is not supported yet"
    )
