"""What the stages leave for a later process, and how it is put back.

The model is opened again from the uploaded archive, with every check that the first opening had,
and the images are decoded again; what was measured or drawn comes from the checkpoint.
"""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from modelward.data import load_images
from modelward.domain import Stage, VulnerabilityReport
from modelward.jobs.checkpoints import Snapshot
from modelward.jobs.pipeline import StageContext
from modelward.jobs.pipelines.image_extraction.state import Assessment

__all__ = ["AttackNotes", "restore", "save"]

_NOTES = "attack"


class AttackNotes:
    """The notebook of the attack: a checkpoint inside the stage, and what the stage leaves."""

    def __init__(self, context: StageContext) -> None:
        self._context = context

    def read(self) -> tuple[Mapping[str, Any], Mapping[str, NDArray[Any]]] | None:
        """What an earlier worker wrote last."""
        found = self._context.recall(_NOTES)
        return (found.values, found.arrays) if found else None

    def due(self) -> bool:
        """Whether writing is worth its time now."""
        return self._context.note_due()

    def write(self, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace what was written before."""
        self._context.note(_NOTES, Snapshot(values, arrays))


def save(state: Assessment, stage: Stage) -> Snapshot:
    """What later stages need of one that has just finished."""
    values: dict[str, Any] = {"notes": list(state.notes)}
    if stage is Stage.SANITY_CHECK:
        values["color_space"] = state.model.color_space
        arrays = {
            "target_labels": state.target_labels,
            "seeds": state.seeds,
            "scored": state.scored,
        }
        return Snapshot(values, arrays)
    if stage is Stage.VULNERABILITY_ENGINE:
        values["report"] = state.report.model_dump(mode="json")
    return Snapshot(values)


def restore(context: StageContext, state: Assessment, stage: Stage, left: Snapshot) -> None:
    """Put back what ``save`` gave."""
    # stages need this module for the notebook
    from modelward.jobs.pipelines.image_extraction import stages

    if stage is Stage.MODEL_EXPLORATION:
        stages.explore_model(context, state)
    elif stage is Stage.SANITY_CHECK:
        state.images = load_images(context.inputs["data"], context.inputs["label"], state.config)
        if left.values["color_space"] != state.model.color_space:
            state.model = state.model.with_color_space(left.values["color_space"])
        state.target_labels = left.arrays["target_labels"]
        state.seeds, state.scored = left.arrays["seeds"], left.arrays["scored"]
    elif stage is Stage.QUERY_GENERATOR:
        # The last notes hold the whole attack: nothing is asked or trained again.
        stages.attack(context, state)
    elif stage is Stage.VULNERABILITY_ENGINE:
        state.report = VulnerabilityReport.model_validate(left.values["report"])
    state.notes = list(left.values["notes"])
