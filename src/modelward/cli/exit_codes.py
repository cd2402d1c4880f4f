"""Exit codes of the commands that assess or scan a model, in one place."""

from enum import IntEnum

from modelward.client import MissingExtraError
from modelward.domain import (
    AccessDeniedError,
    AssessmentError,
    InvalidInputError,
    InvalidParameterError,
    ModelwardError,
    NotFoundError,
    PayloadTooLargeError,
    UnauthenticatedError,
)

__all__ = ["ExitCode", "code_for"]


class ExitCode(IntEnum):
    """How a command ended, for scripts and CI."""

    DONE = 0
    """Everything was made; the severity is below ``--fail-on``."""
    FINDINGS = 1
    """Everything was made; the severity is at or above ``--fail-on``."""
    USAGE = 2
    """Nothing was assessed: options, files, ids or keys were refused."""
    INCOMPLETE = 3
    """No result, or part of it is missing: the job failed, the connection was lost, the command
    was interrupted, or a defence that was due was not made. For ``scan``: something could not be
    read, whatever else was found."""


_REFUSED = (
    AccessDeniedError,
    InvalidInputError,
    InvalidParameterError,
    MissingExtraError,
    NotFoundError,
    PayloadTooLargeError,
    UnauthenticatedError,
)


def code_for(error: ModelwardError) -> ExitCode:
    """Choose the exit code for an error that ended a command."""
    if isinstance(error, AssessmentError):
        return ExitCode.INCOMPLETE
    return ExitCode.USAGE if isinstance(error, _REFUSED) else ExitCode.INCOMPLETE
