"""How `modelward assess` shows a result, and what a refusal has to do with its options."""

import warnings

from rich.console import Console
from rich.table import Table

from modelward.client import Assessment
from modelward.mlflow import MLflowWarning, start_run

__all__ = ["log_result", "point_to_options", "show_result"]

_RATES = {
    "accuracy of the model": "original_accuracy",
    "accuracy of the copy": "extracted_accuracy",
    "agreement of the copy": "agreement",
}
_DEFENSE_RATES = {"  attacks recognised": "defense_tpr", "  false alarms": "defense_fpr"}
_OPTIONS = {
    "input_dimensions": "--input-dimensions",
    "number_of_classes": "--classes",
    "normalize_data": "--normalize, --no-normalize",
    "color_space": "--color-space",
    "number_of_attack_queries": "--queries",
    "vulnerability_threshold": "--threshold",
    "encryption_strategy": "--encryption-strategy",
    "access:": "--access",
}
"""Parameters as messages of the service name them -> options of this command."""


def show_result(result: Assessment, console: Console) -> None:
    """Print the numbers with their intervals, and where everything lies."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in result.inferred.items():
        table.add_row(name, value)
    table.add_row("vulnerability score", f"{result.score:.3f}" + _interval(result, "score"))
    table.add_row("severity", result.severity.value)
    for title, name in _RATES.items():
        table.add_row(title, _percent(getattr(result, name)) + _interval(result, name))
    if result.samples is not None:
        table.add_row("images that scored", f"{result.samples:,}")
    table.add_row("queries", "not reported" if result.queries_spent is None
                  else f"{result.queries_spent:,}")  # fmt: skip
    made = "made" if result.defense_made else "not made"
    table.add_row("defence", made if result.defense_due else f"{made} (not due)")
    if result.defense_tpr is not None:
        for title, name in _DEFENSE_RATES.items():
            table.add_row(title, _percent(getattr(result, name)) + _interval(result, name))
    table.add_row("job", result.job_id)
    table.add_row("results", str(result.output))
    console.print(table, soft_wrap=True)


def _interval(result: Assessment, name: str) -> str:
    """The 95 % interval of a number, in the number's own unit; empty where there is none."""
    if name not in result.intervals:
        return ""
    low, high = result.intervals[name]
    if name == "score":
        return f" (95 % interval {low:.3f} to {high:.3f})"
    return f" (95 % interval {low:.2%} to {high:.2%})"


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2%}"


def point_to_options(message: str, messages: Console) -> None:
    """Say which options set the parameters that a message of the service names."""
    named = [f"{option} ({name.rstrip(':')})" for name, option in _OPTIONS.items()
             if name in message and option not in message]  # fmt: skip
    if named:
        messages.print(f"To set them here: {'; '.join(named)}", markup=False, soft_wrap=True)


def log_result(result: Assessment, tracking_uri: str, messages: Console) -> None:
    """Log to MLflow; trouble there is told and changes neither the result nor the exit code."""
    with warnings.catch_warnings(record=True) as troubles:
        warnings.simplefilter("always", MLflowWarning)
        with start_run(tracking_uri, run_name=result.output.resolve().name) as run:
            run.log_assessment(result)
    for trouble in troubles:
        if issubclass(trouble.category, MLflowWarning):
            messages.print(f"Warning: {trouble.message}", style="yellow", markup=False)
    if run.run_id is not None:
        messages.print(
            f"MLflow run {run.run_id} in {tracking_uri}",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
