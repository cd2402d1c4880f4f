"""Opens the uploaded model: data in this process, code in the sandbox."""

from modelward.data import ModelKind, extract_model
from modelward.domain import Access, AssessmentError, ModelwardError
from modelward.jobs.pipeline import StageContext
from modelward.scan import ScanReport, require_readable
from modelward.targets import Exchange, KerasModel, SandboxedModel, load_keras, open_sandboxed

__all__ = ["open_target"]


def open_target(context: StageContext, scanned: ScanReport) -> KerasModel | SandboxedModel:
    """Make the target from the stored archive; may be called again in another process.

    Args:
        context: Of the stage at work.
        scanned: What the scan of the archive said.

    Raises:
        AssessmentError: The scan could not read a part, the model does not load or does not fit
            the payload, or shows labels only where the attacker is to see probabilities.
    """
    config = context.config
    folder = context.workdir / "model"
    folder.mkdir(exist_ok=True)
    try:
        unpacked = extract_model(
            context.inputs["model"], folder, base_model=config.encryption_strategy == 1
        )
    except ModelwardError as error:
        raise AssessmentError(error.message) from error
    # After the archive's own reader, whose messages are clearer.
    require_readable(scanned)
    shape, classes = config.input_shape, config.number_of_classes
    found = unpacked.found
    context.progress(0.4, "Loading the model")
    if found.kind is ModelKind.KERAS:
        return load_keras(
            unpacked.path,
            input_shape=shape,
            classes=classes,
            normalize_data=config.normalize_data,
            color_space=config.color_space,
        )
    model = open_sandboxed(
        Exchange(found.kind.value, unpacked.path, unpacked.inside, found.magic),
        input_shape=shape,
        classes=classes,
        normalize_data=config.normalize_data,
        color_space=config.color_space,
        options=context.sandbox,
    )
    if config.access is Access.PROBABILITIES and model.offers is Access.LABELS:
        model.close()
        raise AssessmentError(
            "access: expected labels, because the model answers with class numbers only; got "
            "probabilities. Send access: labels, or a model that answers with probabilities"
        )
    return model
