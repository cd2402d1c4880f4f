"""One MLflow run, written to by someone who must not be stopped by it."""

import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelward.mlflow.models import log_keras_model
from modelward.mlflow.tracking import artifact_root, default_tracking_uri, import_mlflow, quiet

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from modelward.client import Assessment

__all__ = ["MLflowWarning", "RunLogger", "start_run"]

_MAX_FAILURES = 3
_BATCH = 100
"""MLflow takes at most so many parameters in one call."""
_PLACES = {
    "vulnerability_report": "Vulnerability report",
    "defense_report": "Defense report",
    "attack_samples": "sample data",
    "defense_artifact": "defense artifact",
}
_METRICS = {
    "original_model_accuracy": "original_accuracy",
    "extracted_model_accuracy": "extracted_accuracy",
    "extraction_agreement": "agreement",
    "vulnerability_score": "score",
    "defense_tpr": "defense_tpr",
    "defense_fpr": "defense_fpr",
}


class MLflowWarning(UserWarning):
    """MLflow did not take something; the run goes on without it."""


class RunLogger:
    """Writes to one run. MLflow's errors become warnings; after three in a row it is left alone."""

    def __init__(self, mlflow: Any, tracking_uri: str) -> None:
        self._mlflow = mlflow
        self._client: Any = None
        self._failures = 0
        self.tracking_uri = tracking_uri
        self.run_id: str | None = None
        """None where MLflow could not start the run; then nothing is logged."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters; values are stored as text."""
        entity = self._mlflow.entities.Param
        items = [entity(str(key), str(value)) for key, value in params.items()]

        def log() -> None:
            for start in range(0, len(items), _BATCH):
                self._client.log_batch(self.run_id, params=items[start : start + _BATCH])

        self._guard("parameters", log)

    def log_metrics(self, metrics: Mapping[str, float | None], step: int = 0) -> None:
        """Log numbers of one step; None and NaN mean not measured and are left out."""
        entity, now = self._mlflow.entities.Metric, int(time.time() * 1000)
        items = [
            entity(name, float(value), now, step)
            for name, value in metrics.items()
            if value is not None and not math.isnan(value)
        ]
        self._guard("metrics", lambda: self._client.log_batch(self.run_id, metrics=items))

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags."""
        entity = self._mlflow.entities.RunTag
        items = [entity(str(key), str(value)) for key, value in tags.items()]
        self._guard("tags", lambda: self._client.log_batch(self.run_id, tags=items))

    def log_artifact(self, path: Path | str, artifact_path: str | None = None) -> None:
        """Log a file, or everything in a folder, under ``artifact_path``."""
        source = Path(path)

        def log() -> None:
            method = self._client.log_artifacts if source.is_dir() else self._client.log_artifact
            method(self.run_id, str(source), artifact_path)

        self._guard(f"artifact {source.name}", log)

    def log_figure_file(self, path: Path | str) -> None:
        """Log a picture under ``figures``."""
        self.log_artifact(path, "figures")

    def log_keras_model(
        self,
        model: Any,
        input_example: "npt.NDArray[np.float32]",
        name: str = "model",
        *,
        required: bool = False,
    ) -> str | None:
        """Log a Keras model that loads with ``mlflow.pyfunc`` wherever Keras and torch are.

        Args:
            model: A Keras model, or the path of a ``.keras`` or ``.h5`` file.
            input_example: (n, height, width, channels) float32, as the model takes it.
            name: Name of the logged model.
            required: Raise instead of warn.

        Returns:
            The model's URI, or None where MLflow failed.
        """

        def log() -> str:
            return log_keras_model(
                self._mlflow,
                self.tracking_uri,
                self.run_id or "",
                model=model,
                input_example=input_example,
                name=name,
            )

        uri: str | None = self._guard(f"model {name}", log, required=required)
        return uri

    def log_assessment(self, assessment: "Assessment") -> None:
        """Log reports, attack samples and defence artifact, the metrics and the tags."""
        for field, place in _PLACES.items():
            folder = getattr(assessment.files, field)
            if folder is not None:
                self.log_artifact(folder, place)
        self.log_metrics({name: getattr(assessment, field) for name, field in _METRICS.items()})
        self.set_tags(
            {
                "modelward.job_id": assessment.job_id,
                "modelward.model_id": assessment.model_id,
                "modelward.severity": assessment.severity.value,
            }
        )

    def _start(self, experiment: str, run_name: str | None) -> None:
        def start() -> str:
            self._client = self._mlflow.MlflowClient(self.tracking_uri)
            found = self._client.get_experiment_by_name(experiment)
            number = (
                found.experiment_id
                if found is not None
                else self._client.create_experiment(
                    experiment, artifact_location=artifact_root(self.tracking_uri)
                )
            )
            return str(self._client.create_run(number, run_name=run_name).info.run_id)

        self._failures = _MAX_FAILURES - 1  # a store that does not start is not asked again
        self.run_id = self._guard("the run", start, starting=True)

    def _end(self, status: str) -> None:
        self._guard("the end", lambda: self._client.set_terminated(self.run_id, status))

    def _guard(
        self,
        what: str,
        action: Callable[[], Any],
        *,
        required: bool = False,
        starting: bool = False,
    ) -> Any:
        idle = self._failures >= _MAX_FAILURES or (self.run_id is None and not starting)
        if idle and not required:
            return None
        try:
            with quiet():
                result = action()
        except Exception as error:
            if required:
                raise
            self._failures += 1
            over = "; MLflow is left alone from here on" if self._failures >= _MAX_FAILURES else ""
            warnings.warn(
                f"MLflow did not take {what}: {_short(error)}{over}", MLflowWarning, stacklevel=3
            )
            return None
        self._failures = 0
        return result


@contextmanager
def start_run(
    tracking_uri: str | None = None,
    experiment: str = "modelward",
    run_name: str | None = None,
    *,
    folder: Path | str | None = None,
) -> Iterator[RunLogger]:
    """Open an MLflow run; it ends ``FINISHED`` or, when the block raises, ``FAILED``.

    Args:
        tracking_uri: An MLflow server or store; None: the one that ``MLFLOW_TRACKING_URI`` names,
            else SQLite in the working directory. A SQLite store keeps its artifacts in ``mlruns``
            beside the database.
        experiment: Experiment name, created where it is missing.
        run_name: Name of the run; None lets MLflow choose.
        folder: SQLite in this folder, whatever the variable says; for callers that name no store.

    Raises:
        MissingExtraError: MLflow is not installed.
    """
    mlflow = import_mlflow()
    if tracking_uri is None and folder is None:
        tracking_uri = os.environ.get("MLFLOW_TRACKING_URI") or None
    if tracking_uri is None:
        place = Path(folder or ".")
        place.mkdir(parents=True, exist_ok=True)
        tracking_uri = default_tracking_uri(place)
    run = RunLogger(mlflow, tracking_uri)
    run._start(experiment, run_name)
    try:
        yield run
    except BaseException:
        run._end("FAILED")
        raise
    run._end("FINISHED")


def _short(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
