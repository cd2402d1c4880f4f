"""Steps 3 and 8: what goes into the MLflow run."""

from modelward.demo.assessment import Assessed
from modelward.demo.datasets import Dataset, scaled
from modelward.demo.evaluation import CloneResult
from modelward.demo.settings import DemoSettings
from modelward.demo.summary import DefenseFigures
from modelward.demo.target import TargetModel
from modelward.mlflow import RunLogger

__all__ = ["EXPERIMENT", "log_results", "log_training"]

EXPERIMENT = "modelward-mnist"
_EXAMPLES = 2


def log_training(
    run: RunLogger, settings: DemoSettings, dataset: Dataset, target: TargetModel
) -> str | None:
    """Step 3: parameters, metrics over the epochs, pictures, the model.

    Args:
        run: A started run of ``modelward.mlflow``.
        settings: Options of the reference run.
        dataset: What was trained on.
        target: What came out.

    Returns:
        Address for ``mlflow.pyfunc.load_model``; None where MLflow did not take the model.
    """
    plan = target.plan
    run.log_params(
        {
            "dataset": dataset.name,
            "dataset_source": dataset.source.partition(" /")[0],
            "train_size": len(dataset.train),
            "validation_size": len(dataset.validation),
            "test_size": len(dataset.test),
            "architecture": settings.architecture.value,
            "quick": settings.quick,
            "seed": settings.seed,
            "parameters": target.parameters,
            "epochs_planned": plan.epochs,
            "batch": plan.batch,
            "peak_learning_rate": plan.peak_rate,
            "weight_averaging": plan.averaging,
            "target_accuracy": plan.target,
        }
    )
    for step, check in enumerate(target.trained.history):
        run.log_metrics(
            {
                "train_loss": check.train_loss,
                "validation_loss": check.loss,
                "validation_accuracy": check.accuracy,
                "learning_rate": check.rate,
                "epoch": check.epoch,
            },
            step=step,
        )
    run.log_metrics(
        {
            "best_validation_accuracy": target.trained.validation_accuracy,
            "test_accuracy": target.test_accuracy,
            "train_seconds": target.trained.seconds,
        }
    )
    for picture in target.pictures:
        run.log_artifact(picture, "pictures")
    run.log_artifact(target.path.with_name("classification_report.txt"), "training")
    example = scaled(dataset.validation.images[:_EXAMPLES])
    return run.log_keras_model(target.path, example)


def log_results(
    run: RunLogger, assessed: Assessed, clone: CloneResult | None, defense: DefenseFigures
) -> None:
    """Step 8: reports, samples and artifact beside the training, with the figures that matter.

    What the reports say goes under the names that every assessment uses; what was measured here,
    on digits that were never uploaded, goes under names that begin with ``test_``.

    Args:
        run: The run of ``log_training``.
        assessed: The finished assessment.
        clone: The surrogate on the test digits; None where there was none.
        defense: The detector's figures.
    """
    run.log_assessment(assessed.result)
    run.log_metrics(
        {
            "test_extraction_agreement": clone.agreement if clone else None,
            "test_extracted_model_accuracy": clone.accuracy if clone else None,
            "test_defense_fpr": defense.fpr,
            "assess_seconds": assessed.seconds,
        }
    )
    for queries, agreement in clone.curve if clone else ():
        run.log_metrics({"test_agreement_by_queries": agreement}, step=queries)
