"""A pickled scikit-learn or xgboost model in the sandbox: rows of numbers to answers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelward.domain import AssessmentError, SandboxOptions
from modelward.targets.adapt import refuse_not_finite
from modelward.targets.sandbox.exchange import Exchange, start_model
from modelward.targets.sandbox.process import SandboxProcess

__all__ = ["TabularModel", "open_tabular"]

_ROWS = 4096


class TabularModel:
    """A model of rows of numbers that runs in the sandbox; made by ``open_tabular``.

    Attributes:
        features: Numbers per row that it takes, None where it does not say.
        framework: Library and class, as the model's side names them.
    """

    def __init__(self, process: SandboxProcess) -> None:
        self._process = process
        taken = process.hello["input"]
        self.features: int | None = taken[0] if taken else None
        self.classes: int | None = process.hello["classes"]
        self.framework: str = process.hello["framework"]

    def predict(self, rows: NDArray[np.floating[Any]]) -> NDArray[Any]:
        """Probabilities where the model gives them, otherwise its answers.

        Args:
            rows: (n, features) float32 or float64.

        Returns:
            (n, classes) probabilities, or (n,) labels (int64) or values.

        Raises:
            AssessmentError: The rows do not fit the model, or an answer is no finite number.
        """
        if rows.ndim != 2 or (self.features is not None and rows.shape[1] != self.features):
            raise AssessmentError(
                f"model: expected rows of {self.features or 'some'} numbers; got {rows.shape}"
            )
        if not len(rows):
            raise AssessmentError("model: expected at least one row; got none")
        parts = [
            self._process.ask(rows[start : start + _ROWS]) for start in range(0, len(rows), _ROWS)
        ]
        if len({part.shape[1] for part in parts}) != 1:
            raise AssessmentError("model: expected equally many numbers per row; got a change")
        answers = np.concatenate(parts)
        refuse_not_finite(answers)
        return answers[:, 0] if answers.shape[1] == 1 else answers

    def close(self) -> None:
        """End the sandbox; the model answers no more."""
        self._process.close()


def open_tabular(exchange: Exchange, options: SandboxOptions) -> TabularModel:
    """Start a pickled scikit-learn or xgboost model in the sandbox.

    Args:
        exchange: The file; its kind is ``pickle``.
        options: Limits and interpreters.

    Raises:
        AssessmentError: There is no sandbox or no interpreter, or the model does not load.
    """
    return TabularModel(start_model(exchange, 0, options)[0])
