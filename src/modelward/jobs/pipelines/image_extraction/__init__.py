"""Image classification, model extraction: explore, check, attack, judge, defend."""

from collections.abc import Callable
from functools import partial

from modelward.domain import Stage
from modelward.jobs.checkpoints import Snapshot
from modelward.jobs.pipeline import Pipeline, StageContext
from modelward.jobs.pipelines.image_extraction import resuming, stages
from modelward.jobs.pipelines.image_extraction.state import Assessment

__all__ = ["build"]

# Shares of the wall time of the MNIST reference, for the progress bar.
_WEIGHTS = {
    Stage.MODEL_EXPLORATION: 0.02,
    Stage.SANITY_CHECK: 0.03,
    Stage.QUERY_GENERATOR: 0.55,
    Stage.VULNERABILITY_ENGINE: 0.08,
    Stage.DEFENSE_REPORT: 0.32,
}


def build() -> Pipeline:
    """Make the pipeline; the stages of one job share one ``Assessment``."""
    steps = (
        (Stage.MODEL_EXPLORATION, stages.explore_model),
        (Stage.SANITY_CHECK, stages.check_sanity),
        (Stage.QUERY_GENERATOR, stages.attack),
        (Stage.VULNERABILITY_ENGINE, stages.judge),
        (Stage.DEFENSE_REPORT, stages.defend),
    )
    return Pipeline(
        stages=tuple((stage, partial(_run, step)) for stage, step in steps),
        weights=_WEIGHTS,
        save=lambda context, stage: resuming.save(_state(context), stage),
        restore=_restore,
    )


def _state(context: StageContext) -> Assessment:
    found: Assessment = context.shared.setdefault("assessment", Assessment(config=context.config))
    return found


def _run(step: Callable[[StageContext, Assessment], None], context: StageContext) -> None:
    step(context, _state(context))


def _restore(context: StageContext, stage: Stage, left: Snapshot) -> None:
    resuming.restore(context, _state(context), stage, left)
