"""Models that carry code: accepted only where a sandbox and an interpreter for them are at hand."""

import sys
from collections.abc import Mapping
from pathlib import Path

from modelward.data import FoundModel, ModelKind, model_in
from modelward.domain import (
    AssessmentError,
    ImageExtractionConfig,
    InvalidInputError,
    InvalidParameterError,
    SandboxOptions,
)
from modelward.settings import Settings
from modelward.targets.sandbox import choose_interpreters, sandbox_available, tensorflow_beside

__all__ = ["check_model", "sandbox_options"]

_WORDS = {
    ModelKind.SAVED_MODEL: "a SavedModel",
    ModelKind.BASE_MODEL: "base_model",
    ModelKind.PICKLE: "a pickled model",
}


def sandbox_options(settings: Settings) -> SandboxOptions:
    """The settings of the sandbox with their defaults filled in.

    Where no interpreters are named, they are our own and the TensorFlow environment beside it or
    in the data folder. The data folder is private.
    """
    given = settings.sandbox
    interpreters = given.interpreters
    if not interpreters:
        tensorflow = tensorflow_beside(settings.data)
        interpreters = (Path(sys.executable), *((tensorflow,) if tensorflow else ()))
    return given.model_copy(
        update={
            "interpreters": interpreters,
            "private": (*given.private, settings.data.absolute()),
        }
    )


def check_model(
    config: ImageExtractionConfig, archives: Mapping[str, Path], options: SandboxOptions
) -> None:
    """Refuse a model that could not be run here; nothing of it is opened.

    Args:
        config: The parsed analysis payload.
        archives: Uploaded files by slot, checked already.
        options: From ``sandbox_options``.

    Raises:
        InvalidParameterError: The model carries code and there is no sandbox here (412).
        InvalidInputError: No interpreter here fits the model (400).
    """
    found = model_in(archives["model"], base_model=config.encryption_strategy == 1)
    if not found.carries_code:
        return
    available, reason = sandbox_available(options)
    if not available:
        raise InvalidParameterError(
            f"model: expected a Keras file (.h5 or .keras), because {_named(found)} carries code "
            "and would run in a sandbox, which this server does not have: "
            f"{reason}. Ask its operator to run: modelward doctor"
        )
    try:
        choose_interpreters(found.kind.value, found.magic, options)
    except AssessmentError as error:
        raise InvalidInputError(error.message) from None


def _named(found: FoundModel) -> str:
    file = f" ({found.entry.name!r})" if found.entry else ""
    return f"{_WORDS[found.kind]}{file}"
