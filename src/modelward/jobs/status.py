"""A job as existing clients read it: flat status, detail, names of downloads."""

from datetime import UTC, datetime
from typing import Any

from modelward.domain import Stage, StageStatus
from modelward.jobs.store import Job

__all__ = ["job_detail", "job_status"]

_UNKNOWN = "na"


def _two_decimals(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}"


def job_status(job: Job) -> dict[str, Any]:
    """The answer of ``job_status_detailed``: every key always, na where nothing is known yet."""
    stages = {stage.value: job.stages.get(stage, StageStatus.NA).value for stage in Stage}
    return {
        "job_id": job.id,
        **stages,
        "CurrentStatus": job.message,
        "VulnerabiltyScore": _two_decimals(job.score),
        "OriginalModelAccuracy": _two_decimals(job.original_accuracy),
        "JobState": job.state.value,
        "Progress": round(job.progress, 4),
        "Attempts": job.attempts,
        "StageSeconds": {name: round(value, 3) for name, value in job.stage_seconds.items()},
    }


def job_detail(job: Job) -> dict[str, Any]:
    """The answer of ``job_detail``; the misspelt names are part of the contract."""
    config = job.config
    created = datetime.fromtimestamp(job.created, tz=UTC)
    return {
        "job_id": job.id,
        "AttackType": config.get("attack_type", _UNKNOWN),
        "ModelInformation": {
            "model_id": job.model_id,
            "task_type": job.task,
            "analysis_type": job.analysis,
            "model_framework": config.get("model_framework"),
            "input_dimensions": config.get("input_shape"),
            "number_of_classes": config.get("number_of_classes"),
        },
        "CreatedTimestamp": created.isoformat(timespec="seconds"),
        "NumerofAttackQueries": config.get("number_of_attack_queries"),
        "VulnerabiltyThreshold": config.get("vulnerability_threshold"),
        "parameters": config,
    }
